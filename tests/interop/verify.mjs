// Judges, with `jose`, the tokens that somebody else made. Standard input: one JSON object per line,
// `{ token, alg, issuer, audience }`, perhaps `typ` and `wantsClaims`, and either `jwks` (a key set) or `secret` (base64url).
// Standard output: one line per line, `{ ok: true, claims }`, `{ ok: false, error }`, or `{ skipped }` where this Node cannot do
// the algorithm.

import './webcrypto.mjs'

import { createInterface } from 'node:readline'
import { createLocalJWKSet, generateKeyPair, generateSecret, jwtVerify } from 'jose'

// Seconds; as much as the service allows, so that the two can be compared.
const LEEWAY = 30

// By algorithm: why it cannot be done, or an empty text.
const unknown = {}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await judge(JSON.parse(line))))
}

async function judge({ token, alg, issuer, audience, typ, wantsClaims, jwks, secret }) {
  unknown[alg] ??= await trial(alg)
  if (unknown[alg]) return { skipped: unknown[alg] }
  const key = secret ? Buffer.from(secret, 'base64url') : createLocalJWKSet(jwks)
  try {
    const { payload } = await jwtVerify(token, key, {
      algorithms: [alg], issuer, audience, typ, clockTolerance: LEEWAY, requiredClaims: ['exp'],
    })
    return { ok: true, claims: wantsClaims ? payload : null }
  } catch (error) {
    return { ok: false, error: `${error.code ?? error.name}: ${error.message}` }
  }
}

async function trial(alg) {
  try {
    await (alg.startsWith('HS') ? generateSecret(alg) : generateKeyPair(alg))
    return ''
  } catch (error) {
    return `${error.name}: ${error.message}`
  }
}
