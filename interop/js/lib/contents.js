'use strict'
// Contents of messages as people's clients write them, and some that only a careful encoder gets right. The same seed
// gives the same contents, save for the boxed ones, whose nonces are random.

const crypto = require('crypto')
const ssbKeys = require('ssb-keys')

const words = `spindle wheel thread cotton yarn loom charkha weave cloth carding roving bobbin distaff whorl skein
  naïve Ærøskøbing жаба 日本語 עברית 🧵 👩‍🌾 ﷽ e\u0301 \u2028 \u2029 \u007f <b> & " \\ / \t \u0001`.split(/ +|\n+/)

module.exports = function Contents (keys, { seed = 1, kinds } = {}) {
  let state = seed >>> 0
  const random = () => { // mulberry32
    state = (state + 0x6D2B79F5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const below = (n) => Math.floor(random() * n)
  const pick = (list) => list[below(list.length)]
  const bytes = (label) => crypto.createHash('sha256').update(`${label} ${below(1e9)}`).digest('base64')
  const feed = () => `@${bytes('feed')}.ed25519`
  const msg = () => `%${bytes('msg')}.sha256`
  const blob = () => `&${bytes('blob')}.sha256`
  const text = (n) => Array.from({ length: n }, () => pick(words)).join(' ')

  const make = {
    post: () => {
      const c = { type: 'post', text: text(1 + below(60)) }
      if (below(3) === 0) c.root = msg()
      if (c.root && below(2)) c.branch = below(2) ? msg() : [msg(), msg()]
      if (below(4) === 0) c.mentions = [{ link: feed(), name: text(2) }, { link: blob(), name: 'a.jpg', size: below(5e6), type: 'image/jpeg' }, {}]
      if (below(5) === 0) c.channel = 'spinning'
      return c
    },
    long: () => ({ type: 'post', text: 'x'.repeat(7000 + below(500)) }),
    vote: () => ({ type: 'vote', vote: { link: msg(), value: pick([1, 0, -1]), expression: pick(['Like', 'Dig', '❤', undefined]) } }),
    about: () => pick([
      () => ({ type: 'about', about: keys.id, name: text(2), description: text(9) }),
      () => ({ type: 'about', about: keys.id, image: { link: blob(), size: below(1e6), type: 'image/png', width: 512, height: 512 } }),
      () => ({ type: 'about', about: feed(), name: text(1) }),
      () => ({ type: 'about', about: msg(), title: text(3), startDateTime: { epoch: 1.6e12 + below(1e9), tz: 'Asia/Kolkata', silent: false } })
    ])(),
    // Of strangers nobody has: these do not change who is replicated.
    contact: () => pick([
      () => ({ type: 'contact', contact: feed(), following: false }),
      () => ({ type: 'contact', contact: feed(), following: false, blocking: true }),
      () => ({ type: 'contact', contact: feed(), blocking: false }),
      () => ({ type: 'contact', following: true })
    ])(),
    channel: () => ({ type: 'channel', channel: text(1), subscribed: random() < 0.5 }),
    pub: () => ({ type: 'pub', address: { host: 'pub.invalid', port: 8008, key: feed() } }),
    private: () => ssbKeys.box(Object.assign(make.post(), { recps: [keys.id] }),
      [keys.id, ...Array.from({ length: below(7) }, () => ssbKeys.generate().id)]),
    odd: () => ({
      type: pick(['abc', 'x'.repeat(52), 'type with spaces', 'ünï']),
      empty: [{}, [], '', { a: {}, b: [[]] }], // a null in a list breaks an index of ssb-db
      nothing: null,
      numbers: [0, -1, 1.5, 1e21, 1e-7, 123456789012345680000, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e6, 2 ** 53, random()],
      order: { z: 1, 10: 'ten', 2: 'two', a: 2, '01': 'no index', '-1': 'neither', 4294967294: 'last', 4294967295: 'beyond' },
      strings: ['\u0000\u001f\u007f\u0080', '\u2028\u2029', '"\\/\b\f\n\r\t', '\ud83e\uddf5', text(5), '<script>&amp;'],
      flags: [true, false],
      deep: Array.from({ length: 20 }).reduce((inner) => ({ inner, list: [inner ? 1 : 0] }), null)
    })
  }
  const mix = kinds || ['post', 'post', 'post', 'post', 'vote', 'vote', 'about', 'contact', 'channel', 'pub', 'private', 'odd', 'long']
  return () => make[pick(mix)]()
}
