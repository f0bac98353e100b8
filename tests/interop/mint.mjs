// Plays an issuer that nobody here wrote: makes a key for every algorithm that `jose` and this Node know, serves the
// public ones as one JWKS over a loopback socket, and prints one line of JSON with a good token per algorithm and the
// hostile ones that an attacker could make of it. Stays up until its standard input closes, and then says, in a second
// line, how often somebody fetched the attacker's key set.

import './webcrypto.mjs'

import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { randomUUID } from 'node:crypto'
import { SignJWT, exportJWK, exportSPKI, generateKeyPair, generateSecret } from 'jose'

const ALGORITHMS = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519',
  'ML-DSA-44', 'ML-DSA-65', 'ML-DSA-87', 'HS256', 'HS384', 'HS512',
]

const AUDIENCE = 'https://api.example'
const OTHER_AUDIENCE = 'https://other.example'
const NOW = Math.floor(Date.now() / 1000)
const HOUR = 3600

const { server, origin, attackerFetches } = await listen()
const issuer = origin

const jwks = { keys: [] }
const algorithms = []
const skipped = []

for (const alg of ALGORITHMS) {
  let key
  try {
    key = await makeKey(alg)
  } catch (error) {
    skipped.push({ alg, reason: `${error.name}: ${error.message}` })
    continue
  }
  if (key.jwk) jwks.keys.push(key.jwk)
  algorithms.push(key)
}

const minted = []
for (const key of algorithms) {
  const attacker = await makeKey(key.alg)
  minted.push({
    alg: key.alg,
    kid: key.kid,
    secret: key.secret && base64url(key.secret),
    token: await good(key),
    alsoGood: await alsoGood(key),
    hostile: [...(await hostileTokens(key, attacker)), ...(await hostileClaims(key))],
  })
}

server.documents = { '/jwks.json': jwks, '/attacker.json': { keys: [] } }
console.log(JSON.stringify({
  library: 'jose',
  version: createRequire(import.meta.url)('./node_modules/jose/package.json').version,
  jwks: `${origin}/jwks.json`,
  issuer,
  audience: AUDIENCE,
  published: jwks.keys.length,
  algorithms: minted,
  skipped,
}))

process.stdin.resume()
process.stdin.on('end', () => {
  console.log(JSON.stringify({ attackerFetches: attackerFetches() }))
  server.close()
  server.closeAllConnections()
})

// --- keys

/** A key pair or a secret: `{ alg, kid, private, public, jwk, secret }`. */
async function makeKey(alg) {
  const kid = `${alg}-${randomUUID()}`
  if (alg.startsWith('HS')) {
    const secret = await generateSecret(alg, { extractable: true })
    return { alg, kid, private: secret, secret: Buffer.from(await crypto.subtle.exportKey('raw', secret)) }
  }
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' }
  return { alg, kid, private: privateKey, public: publicKey, jwk }
}

function claims(changes = {}) {
  return {
    iss: issuer, aud: AUDIENCE, sub: 'user-1', client_id: 'client-1', jti: randomUUID(), scope: 'orders:read',
    iat: NOW, exp: NOW + HOUR, ...changes,
  }
}

function header(key, changes = {}) {
  return { alg: key.alg, kid: key.kid, typ: 'at+jwt', ...changes }
}

// --- good tokens

function good(key) {
  return new SignJWT(claims()).setProtectedHeader(header(key)).sign(key.private)
}

async function alsoGood(key) {
  const withHeader = (changes) => new SignJWT(claims()).setProtectedHeader(header(key, changes)).sign(key.private)
  const withClaims = (changes) => new SignJWT(claims(changes)).setProtectedHeader(header(key)).sign(key.private)
  return [
    { name: 'no kid', token: await withHeader({ kid: undefined }) },
    { name: 'x5t and an unknown header member', token: await withHeader({ x5t: 'AAAA', 'x-tenant': { a: [1, 2] } }) },
    { name: 'aud is an array', token: await withClaims({ aud: [OTHER_AUDIENCE, AUDIENCE] }) },
    { name: 'fractional exp', token: await withClaims({ exp: NOW + HOUR + 0.5 }) },
    { name: 'text beyond ASCII', token: await withClaims({ sub: 'Ἀθηνᾶ 🦉' }) },
  ]
}

// --- hostile tokens: what must fail before the claims are looked at

async function hostileTokens(key, attacker) {
  const token = await good(key)
  const [head, payload, signature] = token.split('.')
  const admin = base64url(JSON.stringify(claims({ sub: 'admin' })))
  const sign = (head, by = key) => signText(by, JSON.stringify(head), JSON.stringify(claims()))
  const found = []
  const add = (name, token) => found.push({ name, stage: 'token', token })
  // Names a key that is not published, or not for its algorithm: whoever judges it may have to look for that key first.
  const addUnknown = (name, token) => found.push({ name, stage: 'token', keyUnknown: true, token })

  for (const none of ['none', 'None', 'NONE', 'nOnE']) {
    const unsigned = base64url(JSON.stringify(header(key, { alg: none })))
    add(`alg ${none}, no signature`, `${unsigned}.${payload}.`)
    add(`alg ${none}, old signature`, `${unsigned}.${payload}.${signature}`)
  }
  add('alg absent', `${base64url(JSON.stringify(header(key, { alg: undefined })))}.${payload}.${signature}`)
  add('alg null', `${base64url(JSON.stringify(header(key, { alg: null })))}.${payload}.${signature}`)
  add('alg in lower case', await sign(header(key, { alg: key.alg.toLowerCase() })))
  add('signature stripped', `${head}.${payload}.`)
  add('signature and its dot stripped', `${head}.${payload}`)
  add('signature cut short', token.slice(0, -4))
  add('signature of zeros', `${head}.${payload}.${base64url(Buffer.alloc(Buffer.from(signature, 'base64url').length))}`)
  add('payload swapped', `${head}.${admin}.${signature}`)
  add('header swapped', `${base64url(JSON.stringify(header(key, { typ: 'JWT' })))}.${payload}.${signature}`)

  add('wrong key', await sign(header(key), attacker))
  add('wrong key, no kid', await sign(header(key, { kid: undefined }), attacker))
  addUnknown("attacker's kid", await sign(header(attacker), attacker))
  const embedded = attacker.jwk ?? { kty: 'oct', k: base64url(attacker.secret) }
  add("attacker's key embedded as jwk", await sign(header(key, { jwk: embedded }), attacker))
  add("attacker's key embedded as jwk, no kid", await sign(header(key, { jwk: embedded, kid: undefined }), attacker))
  add("attacker's jku", await sign(header(key, { jku: `${origin}/attacker.json` }), attacker))
  add("attacker's x5u", await sign(header(key, { x5u: `${origin}/attacker.json` }), attacker))
  addUnknown("kid is the attacker's URL", await sign(header(key, { kid: `${origin}/attacker.json` }), attacker))
  addUnknown('kid in another letter case', await sign(header(key, { kid: key.kid.toUpperCase() })))
  const neighbour = algorithms.find((other) => other !== key && Boolean(other.secret) === Boolean(key.secret))
  if (neighbour) addUnknown("kid of another algorithm's key", await sign(header(key, { kid: neighbour.kid })))

  add('crit unknown', await sign(header(key, { crit: ['x-must'], 'x-must': true })))
  add('crit empty', await sign(header(key, { crit: [] })))
  add('crit lists an absent member', await sign(header(key, { crit: ['x-must'] })))
  add('crit is no array', await sign(header(key, { crit: 'exp' })))
  add('b64 false, payload encoded', await sign(header(key, { crit: ['b64'], b64: false })))
  add('b64 false, payload not encoded', await signUnencoded(key, header(key, { crit: ['b64'], b64: false })))
  add('b64 false without crit', await sign(header(key, { b64: false })))
  add('zip', await sign(header(key, { zip: 'DEF' })))
  add('alg twice', await signText(key, `{"alg":"none","alg":"${key.alg}","kid":"${key.kid}"}`, JSON.stringify(claims())))
  add('kid twice', await signText(key, `{"alg":"${key.alg}","kid":"x","k\\u0069d":"${key.kid}"}`, JSON.stringify(claims())))
  add('header has NaN', await signText(key, JSON.stringify(header(key)).replace('{', '{"x":NaN,'), JSON.stringify(claims())))
  add('header with a byte order mark', await signText(key, `\ufeff${JSON.stringify(header(key))}`, JSON.stringify(claims())))
  add('longer than 8 KiB', await signText(key, JSON.stringify(header(key)), JSON.stringify(claims({ x: 'x'.repeat(8000) }))))
  add('header is an array', await signText(key, JSON.stringify([header(key)]), JSON.stringify(claims())))
  add('header with something behind it', await signText(key, `${JSON.stringify(header(key))}{}`, JSON.stringify(claims())))

  add('dot behind', `${token}.`)
  add('dot in front', `.${token}`)
  add('five parts', `${head}.${head}.${payload}.${payload}.${signature}`)
  add('JSON serialisation', JSON.stringify({ protected: head, payload, signature }))
  add('white space behind', `${token} `)
  add('white space in the signature', `${head}.${payload}.${signature.slice(0, 8)} ${signature.slice(8)}`)
  add('line feed in the signature', `${head}.${payload}.${signature.slice(0, 8)}\n${signature.slice(8)}`)
  add('padded header', `${padded(head)}.${payload}.${signature}`)
  add('padded payload', `${head}.${padded(payload)}.${signature}`)
  add('padded signature', `${head}.${payload}.${padded(signature)}`)
  const loose = withStrayBits(signature)
  if (loose) add('stray bits in the last character', `${head}.${payload}.${loose}`)

  if (key.public) await addConfusions(add, addUnknown, key, payload)
  for (const [name, bytes] of otherEncodings(key.alg, Buffer.from(signature, 'base64url'))) {
    add(name, `${head}.${payload}.${base64url(bytes)}`)
  }
  return found
}

/** The public key, in every form it can be had, as the secret of an HMAC; and the key under a neighbour's algorithm. */
async function addConfusions(add, addUnknown, key, payload) {
  const spki = Buffer.from(await crypto.subtle.exportKey('spki', key.public).catch(() => []))
  const pem = spki.length ? await exportSPKI(key.public) : undefined
  const { kid, alg, use, ...bare } = key.jwk
  const secrets = {
    'JWK text': JSON.stringify(key.jwk),
    'JWK text without metadata': JSON.stringify(bare),
    'public member': Buffer.from(bare.n ?? bare.x ?? bare.pub, 'base64url'),
    ...(pem && {
      PEM: pem,
      'PEM with a line feed': `${pem}\n`,
      'PEM without its last line feed': pem.trimEnd(),
      'PEM behind white space': ` \n${pem}`,
      DER: spki,
    }),
  }
  for (const hmac of ['HS256', 'HS384', 'HS512']) {
    for (const [form, secret] of Object.entries(secrets)) {
      const by = { alg: hmac, private: await importSecret(hmac, Buffer.from(secret)) }
      add(`${hmac} keyed with the public key, ${form}`, await signEncoded(by, header(key, { alg: hmac }), payload))
    }
  }
  const sibling = { RS256: 'PS256', RS384: 'RS256', RS512: 'PS512', PS256: 'RS256', PS384: 'PS256', PS512: 'RS512' }[alg]
  if (sibling) {
    const pkcs8 = await crypto.subtle.exportKey('pkcs8', key.private)
    const name = sibling.startsWith('PS') ? 'RSA-PSS' : 'RSASSA-PKCS1-v1_5'
    const by = await crypto.subtle.importKey('pkcs8', pkcs8, { name, hash: `SHA-${sibling.slice(2)}` }, false, ['sign'])
    const token = await signEncoded({ alg: sibling, private: by }, header(key, { alg: sibling }), payload)
    addUnknown(`signed as ${sibling} with a key that is published for ${alg}`, token)
  }
}

/** Signatures that a lenient implementation takes for the good one, or for a good one of any message. */
function otherEncodings(alg, signature) {
  if (alg.startsWith('ES')) {
    const half = signature.length / 2
    const [r, s] = [signature.subarray(0, half), signature.subarray(half)]
    const one = Buffer.concat([Buffer.alloc(half - 1), Buffer.from([1])])
    return [
      ['signature in DER', derSequence(r, s)],
      ['r = 1, s = 0', Buffer.concat([one, Buffer.alloc(half)])],
      ['r and s all ones', Buffer.alloc(signature.length, 0xff)],
      ['r and s with a zero in front', Buffer.concat([Buffer.alloc(1), r, Buffer.alloc(1), s])],
      ['signature twice', Buffer.concat([signature, signature])],
    ]
  }
  if (alg === 'EdDSA' || alg === 'Ed25519') {
    // S + L verifies too where S is not checked to be below L (RFC 8032 §5.1.7).
    const L = 2n ** 252n + 27742317777372353535851937790883648493n
    let sum = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`) + L
    const s = Buffer.alloc(32)
    for (let at = 0; at < 32; at += 1, sum >>= 8n) s[at] = Number(sum & 0xffn)
    return [['S + L', Buffer.concat([signature.subarray(0, 32), s])]]
  }
  return [
    ['zero in front of the signature', Buffer.concat([Buffer.alloc(1), signature])],
    ['zero behind the signature', Buffer.concat([signature, Buffer.alloc(1)])],
  ]
}

// --- hostile claims: properly signed, and still not for us or not now

async function hostileClaims(key) {
  const found = []
  const sign = async (name, changes, head = {}) =>
    found.push({ name, stage: 'claims', token: await signText(key, JSON.stringify(header(key, head)), JSON.stringify(claims(changes))) })
  const signPayload = async (name, payload) =>
    found.push({ name, stage: 'claims', token: await signText(key, JSON.stringify(header(key)), payload) })

  await sign('expired', { iat: NOW - 2 * HOUR, exp: NOW - HOUR })
  await sign('no exp', { exp: undefined })
  await sign('exp is text', { exp: String(NOW + HOUR) })
  await sign('exp is null', { exp: null })
  await sign('not yet valid', { nbf: NOW + HOUR / 2 })
  await sign('nbf is text', { nbf: 'never' })
  await sign('wrong aud', { aud: OTHER_AUDIENCE })
  await sign('no aud', { aud: undefined })
  await sign('aud is empty', { aud: [] })
  await sign('aud is an object', { aud: { [AUDIENCE]: true } })
  await sign('aud with a suffix', { aud: `${AUDIENCE}/` })
  await sign('aud in another letter case', { aud: AUDIENCE.toUpperCase() })
  await sign('aud array with something else in it', { aud: [AUDIENCE, 7] })
  await sign('wrong iss', { iss: 'https://issuer.example' })
  await sign('no iss', { iss: undefined })
  await sign('iss with a slash', { iss: `${issuer}/` })
  await sign('iss is an array', { iss: [issuer] })
  await sign('a DPoP proof', {}, { typ: 'dpop+jwt' })
  await sign('a logout token', {}, { typ: 'logout+jwt' })
  await sign('a security event token', {}, { typ: 'application/secevent+jwt' })
  await sign('a status list', {}, { typ: 'statuslist+jwt' })
  await sign('an ID token', { at_hash: 'MTIzNDU2Nzg5MDEyMzQ1Ng' })
  await sign('a security event', { events: { 'urn:example:event': {} } })
  await sign('client_id is a number', { client_id: 7 })
  await sign('scope is a number', { scope: 7 })
  await sign('exp is beyond the year 9999', { exp: 1e12 })
  await sign('iat is text', { iat: String(NOW) })
  await sign('issued in the future', { iat: NOW + HOUR / 2 })
  await sign('bound to a key', { cnf: { jkt: 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs' } })
  await signPayload('exp twice', JSON.stringify(claims()).replace('{', `{"exp":${NOW - HOUR},`))
  await signPayload('claims are an array', JSON.stringify([claims()]))
  await signPayload('claims with something behind them', `${JSON.stringify(claims())}{}`)
  await signPayload('claims are not UTF-8', Buffer.concat([Buffer.from('{"sub":"'), Buffer.from([0xff]), Buffer.from(`",${JSON.stringify(claims()).slice(1)}`)]))
  await signPayload('claims are empty', '')
  await signPayload('claims with a byte order mark', `\ufeff${JSON.stringify(claims())}`)
  return found
}

// --- signing without a library's good manners

function signText(by, head, payload) {
  return signInput(by, `${base64url(head)}.${base64url(payload)}`)
}

function signEncoded(by, head, payload) {
  return signInput(by, `${base64url(JSON.stringify(head))}.${payload}`)
}

/** RFC 7797: the payload as it is, which works as long as it has no dot. */
function signUnencoded(by, head) {
  const payload = JSON.stringify({ sub: 'user-1', exp: NOW + HOUR })
  return signInput(by, `${base64url(JSON.stringify(head))}.${payload}`)
}

async function signInput(by, input) {
  const signature = await crypto.subtle.sign(parameters(by.alg), by.private, Buffer.from(input))
  return `${input}.${base64url(Buffer.from(signature))}`
}

function parameters(alg) {
  const bits = Number(alg.slice(2))
  if (alg.startsWith('RS')) return { name: 'RSASSA-PKCS1-v1_5' }
  if (alg.startsWith('PS')) return { name: 'RSA-PSS', saltLength: bits / 8 }
  if (alg.startsWith('ES')) return { name: 'ECDSA', hash: `SHA-${bits}` }
  if (alg.startsWith('HS')) return { name: 'HMAC' }
  return { name: alg === 'EdDSA' ? 'Ed25519' : alg }
}

function importSecret(alg, bytes) {
  return crypto.subtle.importKey('raw', bytes, { name: 'HMAC', hash: `SHA-${alg.slice(2)}` }, false, ['sign'])
}

// --- encodings

function base64url(data) {
  return Buffer.from(data).toString('base64url')
}

/** With the padding that JWS forbids; with too much of it where none would be due. */
function padded(part) {
  return part + '='.repeat((4 - (part.length % 4)) % 4 || 1)
}

/** Another spelling of the same octets, if their length leaves bits over. */
function withStrayBits(part) {
  if (part.length % 4 === 0) return undefined
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return part.slice(0, -1) + alphabet[alphabet.indexOf(part.at(-1)) + 1]
}

function derSequence(...integers) {
  const encoded = integers.map((bytes) => {
    let start = 0
    while (start < bytes.length - 1 && bytes[start] === 0) start += 1
    const trimmed = bytes.subarray(start)
    const content = trimmed[0] >= 0x80 ? Buffer.concat([Buffer.alloc(1), trimmed]) : trimmed
    return Buffer.concat([Buffer.from([0x02, content.length]), content])
  })
  const body = Buffer.concat(encoded)
  const length = body.length < 0x80 ? [body.length] : [0x81, body.length]
  return Buffer.concat([Buffer.from([0x30, ...length]), body])
}

// --- the key server

async function listen() {
  let fetchesOfAttacker = 0
  const server = createServer((request, response) => {
    if (request.url === '/attacker.json') fetchesOfAttacker += 1
    const document = server.documents?.[request.url]
    response.writeHead(document ? 200 : 404, { 'content-type': 'application/jwk-set+json' })
    response.end(JSON.stringify(document ?? {}))
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { server, origin: `http://127.0.0.1:${server.address().port}`, attackerFetches: () => fetchesOfAttacker }
}
