// A certified OpenID provider, npm `oidc-provider`, on a loopback port: client credentials and a code flow, access tokens
// for one API in every format and algorithm that the provider has.
//
// First line of standard input: `{ port, keys }`. `keys` are generations of private JWKs, newest first, that an earlier run
// of this script told of; it puts a new one in front of them, signs with that and publishes them all. With the same port
// that is a restart with a key change, as an operator does it. First line of standard output: `{ issuer, jwks, keys, … }`.
// Then each line `{ login, client }` gets a line `{ accessToken, idToken }`: what that client has when that subject has logged
// in. It ends with its standard input.

import './webcrypto.mjs'

import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'

// It announces its own defaults on standard output, which is ours.
console.info = console.warn = () => {}
const { exportJWK, generateKeyPair } = await import('jose')
const { default: Provider, errors } = await import('oidc-provider')

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519']
const AUDIENCE = 'https://api.example'
const SCOPES = 'orders:read orders:write'

// Clients that people log in with. The second is named like the audience of the API, so that its ID tokens have its `aud`.
const APPS = ['app', AUDIENCE]
const CALLBACK = 'https://app.example/callback'
const SECRET = randomUUID()

// Two interactions, and back: more is a loop.
const MAX_HOPS = 8

// The API's own tokens, and those that it must refuse whoever asks for them.
const RESOURCES = {
  [AUDIENCE]: {},
  [`${AUDIENCE}/short`]: { accessTokenTTL: 1 },
  [`${AUDIENCE}/opaque`]: { accessTokenFormat: 'opaque' },
  [`${AUDIENCE}/encrypted`]: { encrypt: { alg: 'dir', enc: 'A128CBC-HS256', key: randomBytes(32) } },
  [`${AUDIENCE}/hmac`]: { sign: { alg: 'HS256', key: randomBytes(32) } },
  'https://other.example': { audience: 'https://other.example' },
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const { port, keys: earlier } = JSON.parse((await lines.next()).value)

const generations = [await Promise.all(ALGORITHMS.map(makeKey)), ...earlier]
const server = createServer()
server.listen(port, '127.0.0.1')
await once(server, 'listening')
const issuer = `http://127.0.0.1:${server.address().port}`
const provider = new Provider(issuer, configuration())
// Who is sent to log in is logged in: as whom, is told in the query.
const callback = provider.callback()
server.on('request', (request, response) => {
  if (request.url.startsWith('/interaction/')) return logIn(request, response)
  return callback(request, response)
})

console.log(JSON.stringify({
  issuer,
  jwks: `${issuer}/jwks`,
  audience: AUDIENCE,
  token: `${issuer}/token`,
  clients: ALGORITHMS.map((alg) => ({ alg, id: `service-${alg}`, secret: SECRET })),
  apps: APPS,
  keys: generations,
}))

for await (const line of lines) console.log(JSON.stringify(await codeFlow(JSON.parse(line))))
server.close()
server.closeAllConnections()

async function makeKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  return { ...(await exportJWK(privateKey)), kid: `${alg}-${randomUUID()}`, alg, use: 'sig' }
}

function configuration() {
  return {
    jwks: { keys: generations.flat() },
    clients: [
      ...ALGORITHMS.map((alg) => ({
        client_id: `service-${alg}`, client_secret: SECRET, grant_types: ['client_credentials'], redirect_uris: [],
        response_types: [],
      })),
      ...APPS.map((id) => ({ client_id: id, client_secret: SECRET, redirect_uris: [CALLBACK] })),
    ],
    scopes: ['openid'],
    cookies: { keys: [randomUUID()] },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    // Whoever is logged in has agreed to everything.
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId })
      grant.addOIDCScope('openid')
      grant.addResourceScope(AUDIENCE, SCOPES)
      await grant.save()
      return grant
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer, useGrantedResource: () => true },
    },
  }
}

function resourceServer(_, resource, client) {
  if (!(resource in RESOURCES)) throw new errors.InvalidTarget()
  const ofClient = ALGORITHMS.find((alg) => client.clientId === `service-${alg}`) ?? 'RS256'
  const { encrypt, sign = { alg: ofClient }, ...changes } = RESOURCES[resource]
  return {
    audience: AUDIENCE, scope: SCOPES, accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign, ...(encrypt && { encrypt }) },
    ...changes,
  }
}

async function logIn(request, response) {
  const { params } = await provider.interactionDetails(request, response)
  await provider.interactionFinished(request, response, { login: { accountId: params.login_hint } })
}

/** Plays the browser: follows the redirects with its cookies, and then the client, which redeems the code. */
async function codeFlow({ login, client }) {
  const verifier = randomBytes(32).toString('base64url')
  const query = {
    client_id: client, redirect_uri: CALLBACK, response_type: 'code', scope: `openid ${SCOPES}`, resource: AUDIENCE,
    login_hint: login, code_challenge_method: 'S256',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
  }
  const cookies = new Map()
  let at = new URL(`${issuer}/auth?${new URLSearchParams(query)}`)
  for (let hops = 0; at.origin === issuer; hops += 1) {
    if (hops > MAX_HOPS) throw new Error(`the code flow does not end, at ${at.pathname}`)
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ')
    const response = await fetch(at, { redirect: 'manual', headers: { cookie } })
    for (const set of response.headers.getSetCookie()) {
      const [name, value] = set.split(';')[0].split('=')
      cookies.set(name, value)
    }
    if (!response.headers.has('location')) throw new Error(`the code flow ends with ${response.status} at ${at.pathname}`)
    at = new URL(response.headers.get('location'), at)
  }
  const redeemed = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${encodeURIComponent(client)}:${SECRET}`).toString('base64')}` },
    body: new URLSearchParams({
      grant_type: 'authorization_code', code: at.searchParams.get('code'), redirect_uri: CALLBACK,
      code_verifier: verifier, resource: AUDIENCE,
    }),
  })
  const { access_token: accessToken, id_token: idToken } = await redeemed.json()
  return { accessToken, idToken }
}
