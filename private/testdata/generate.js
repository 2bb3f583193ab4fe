// Makes unbox.json: private messages at the edges of the format, and whether npm ssb-keys opens them. They are made at random,
// so each run makes others. In an empty folder, with node 20:
//
//   npm install ssb-keys@8.5.0 private-box@0.3.1 && node generate.js > unbox.json
//
// The packages are MIT-licensed; the file holds only what they answered.
const crypto = require('crypto')
const sodium = require('chloride')
const pb = require('private-box')
const ssbKeys = require('ssb-keys')

const people = []
for (let i = 0; i < 12; i++) people.push(ssbKeys.generate('ed25519', crypto.createHash('sha256').update('person ' + i).digest()))
const x25519 = k => sodium.crypto_sign_ed25519_pk_to_curve25519(Buffer.from(k.public, 'base64'))
const stranger = ssbKeys.generate('ed25519', Buffer.alloc(32, 7))
const body = Buffer.from(JSON.stringify({ type: 'post', text: 'für dich' }))

// parts builds a message by hand. count is what each slot claims, slots how many there are.
function parts ({ slots, count, onetime, shared, text = body, cut = 0, grow = 0, junk = 0 }) {
  const nonce = crypto.randomBytes(24)
  const key = crypto.randomBytes(32)
  const pair = sodium.crypto_box_keypair()
  const all = [nonce, onetime || pair.publicKey]
  for (let i = 0; i < junk; i++) all.push(crypto.randomBytes(49))
  for (let i = 0; i < slots; i++) {
    const secret = shared || sodium.crypto_scalarmult(pair.secretKey, x25519(people[i]))
    all.push(sodium.crypto_secretbox_easy(Buffer.concat([Buffer.from([count === undefined ? slots : count]), key]), nonce, secret))
  }
  all.push(sodium.crypto_secretbox_easy(text, nonce, key))
  let out = Buffer.concat(all)
  if (cut) out = out.slice(0, out.length - cut)
  if (grow) out = Buffer.concat([out, Buffer.alloc(grow)])
  return out
}

const cases = []
function add (name, ciphertext, suffix = '.box') {
  const text = (Buffer.isBuffer(ciphertext) ? ciphertext.toString('base64') : ciphertext) + suffix
  const opens = [...people, stranger].map(keys => {
    let key = null, plain = null
    try { key = ssbKeys.unboxKey(text, keys) } catch (_) {}
    try { plain = ssbKeys.unbox(text, keys) } catch (_) {}
    return { key: key ? key.toString('base64') : null, plaintext: plain === undefined ? null : plain }
  })
  cases.push({ name, text, opens })
}

for (const n of [1, 2, 6, 7, 8, 9, 12]) add(n + ' recipients', pb.multibox(body, people.slice(0, n).map(x25519), 255))
for (const count of [0, 1, 2, 4, 255]) add('3 slots that claim ' + count, parts({ slots: 3, count }))
for (const junk of [1, 5, 6, 7, 8]) add(junk + ' slots of noise before 1', parts({ slots: 1, count: junk + 1, junk }))
for (const cut of [1, 15, 16, body.length, body.length + 1, body.length + 16, body.length + 17, body.length + 18]) {
  add('1 slot, the last ' + cut + ' bytes cut off', parts({ slots: 1, cut }))
}
add('1 slot and a byte too many', parts({ slots: 1, grow: 1 }))
add('an empty body', parts({ slots: 1, text: Buffer.alloc(0) }))
add('a body that is no JSON', parts({ slots: 1, text: Buffer.from('hello') }))
add('a large body', parts({ slots: 7, text: Buffer.from(JSON.stringify({ type: 'post', text: 'x'.repeat(5000) })) }))
const small = [
  '00'.repeat(32), '01' + '00'.repeat(31),
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f'
]
for (const point of small) {
  add('one-time key of small order ' + point, parts({ slots: 1, onetime: Buffer.from(point, 'hex'), shared: Buffer.alloc(32) }))
}
const good = parts({ slots: 2 })
for (const suffix of ['', '.', '.boxes', '.box2', '.box?unbox=1', '.bo', '.foo', '.foo.box', '.Box']) add('suffix ' + suffix, good, suffix)
const b64 = good.toString('base64')
add('a character changed in the nonce', (b64[0] === 'A' ? 'B' : 'A') + b64.slice(1))
add('a line end inside', b64.slice(0, 8) + '\n' + b64.slice(8))
add('URL alphabet', b64.replace(/\+/g, '-').replace(/\//g, '_'))
add('no padding', parts({ slots: 1, text: Buffer.from('{"a":1}') }).toString('base64').replace(/=+$/, ''))
add('nothing', '')

process.stdout.write(JSON.stringify({
  secrets: [...people, stranger].map(k => k.private),
  cases
}, null, 1) + '\n')
