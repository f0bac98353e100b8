// Signs, with `jose`, what a client says who it is (`private_key_jwt`, RFC 7523 as updated by RFC 10070). Standard input: one JSON
// object per line, `{ key, client, audience }`, with a private key in PEM, and perhaps `typ`. Standard output: for each
// `{ assertion }`, good for a minute and for one request.

import './webcrypto.mjs'

import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline'
import { importPKCS8, SignJWT } from 'jose'

for await (const line of createInterface({ input: process.stdin })) {
  const { key, client, audience, typ = 'client-authentication+jwt' } = JSON.parse(line)
  const assertion = await new SignJWT({})
    .setProtectedHeader({ alg: 'ES256', typ })
    .setIssuer(client)
    .setSubject(client)
    .setAudience(audience)
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(await importPKCS8(key, 'ES256'))
  console.log(JSON.stringify({ assertion }))
}
