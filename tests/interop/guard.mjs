// An API behind `jose`, whose copy of the key set is fetched anew once it is as old as it may be, and not before, whatever
// kid comes.
//
// First line of standard input: `{ jwks, issuer, audience, maxAge }`, milliseconds. First line of standard output:
// `{ port }`. GET answers 200 for a good token and 401 for any other. It ends with its standard input, and says before it
// does how often it has fetched and why it has refused: `{ fetches, refusals }`, by code.

import './webcrypto.mjs'

import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const { jwks, issuer, audience, maxAge } = JSON.parse((await lines.next()).value)

let fetches = 0
const refusals = {}
const keys = createRemoteJWKSet(new URL(jwks), {
  cacheMaxAge: maxAge,
  // An unknown kid is never a reason.
  cooldownDuration: Infinity,
  [customFetch]: (...request) => {
    fetches += 1
    return fetch(...request)
  },
})

const server = createServer(async (request, response) => {
  try {
    const token = request.headers.authorization.slice('Bearer '.length)
    await jwtVerify(token, keys, { issuer, audience, algorithms: ['ES256'], requiredClaims: ['exp'] })
    response.writeHead(200)
  } catch (error) {
    const code = error.code ?? error.name
    refusals[code] = (refusals[code] ?? 0) + 1
    response.writeHead(401)
  }
  response.end()
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })))

await lines.next()
console.log(JSON.stringify({ fetches, refusals }))
server.close()
server.closeAllConnections()
