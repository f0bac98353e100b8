// Judges, with `jose`, the tokens that somebody else made. Standard input: one JSON object per line,
// `{ token, alg, issuer, audience }` and either `jwks` (a key set) or `secret` (base64url). Standard output: one line per
// line, `{ ok: true, claims }`, `{ ok: false, error }`, or `{ skipped }` where this Node cannot do the algorithm.

import './webcrypto.mjs'

import { createInterface } from 'node:readline'
import { createLocalJWKSet, generateKeyPair, generateSecret, jwtVerify } from 'jose'

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await judge(JSON.parse(line))))
}

async function judge({ token, alg, issuer, audience, jwks, secret }) {
  try {
    await (alg.startsWith('HS') ? generateSecret(alg) : generateKeyPair(alg))
  } catch (error) {
    return { skipped: `${error.name}: ${error.message}` }
  }
  const key = secret ? Buffer.from(secret, 'base64url') : createLocalJWKSet(jwks)
  try {
    const { payload } = await jwtVerify(token, key, { algorithms: [alg], issuer, audience, typ: 'at+jwt' })
    return { ok: true, claims: payload }
  } catch (error) {
    return { ok: false, error: `${error.code ?? error.name}: ${error.message}` }
  }
}
