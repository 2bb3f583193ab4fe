'use strict'
// What all peers share: JSON lines on stdin and stdout.
//
//   argv[2]  {"dir", "shs", "seed", "sign", "port", "host", "hops", "ebt", ...}     see config() below
//   stdout   {"ready":true,"id":"@...","address":"net:..."}                          once, when it listens
//   stdin    {"req":1,"cmd":"publish","args":[{"type":"post","text":"hi"}]}          any number at once
//   stdout   {"req":1,"result":...} or {"req":1,"error":"..."}                       in the order they end
//
// Whatever libraries print goes to stderr. A peer ends when its stdin does, so none outlives the test that started it.

const crypto = require('crypto')
const fs = require('fs')
const net = require('net')
const path = require('path')
const readline = require('readline')
const util = require('util')
const pull = require('pull-stream')
const ssbKeys = require('ssb-keys')
const V = require('ssb-validate')
const Contents = require('./contents')

for (const level of ['log', 'info', 'warn', 'error', 'trace', 'debug']) {
  console[level] = (...args) => process.stderr.write(`${level}: ${util.format(...args)}\n`)
}

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

// config reads argv[2]:
//   dir   folder for everything this peer keeps; made when missing
//   shs   network key, base64; never the public network's
//   seed  32 bytes, base64: the identity. Without one it is read from or made in dir/secret
//   sign  HMAC key of the network, base64, or null
//   port  0 or absent: any free one
//   apart true: the process is in a network that the test made
//   host  where it listens: 127.0.0.1, or apart another
//   hops  how far to replicate, 2
//   ebt   false: replicate with createHistoryStream only
//   blobs    most bytes of a blob that is taken in; db2.js takes none without it
//   rooms    true: db2.js is a client of rooms
//   invites  true: server.js makes and takes invites
//   apps     true: server.js has the plugins that apps ask for: queries, links, names, search and the like
//   auto     true: db2.js dials whom it hears of, as apps do
//   lan      true: db2.js (ssb-lan) and server.js (ssb-local) look for neighbours on the local network and dial them; they announce
//            themselves there unless the host is 127.0.0.1. Only apart
function config () {
  const c = Object.assign({ host: '127.0.0.1', port: 0, hops: 2, ebt: true, sign: null }, JSON.parse(process.argv[2]))
  if (!c.dir || !c.shs) throw new Error('config needs dir and shs')
  if (c.shs === require('ssb-caps').shs) throw new Error('tests do not join the public network')
  if ((c.host !== '127.0.0.1' || c.lan) && !c.apart) throw new Error('peers listen on 127.0.0.1 only')
  if (c.lan && !c.port) throw new Error('ssb-local listens for neighbours at the port of the peer: it is needed')
  fs.mkdirSync(c.dir, { recursive: true })
  c.keys = c.seed
    ? ssbKeys.generate('ed25519', Buffer.from(c.seed, 'base64'))
    : ssbKeys.loadOrCreateSync(path.join(c.dir, 'secret'))
  return c
}

// stack is the configuration that all secret-stack peers begin with: one listener, nothing found by itself unless c says so.
function stack (c) {
  const scope = c.host === '127.0.0.1' ? 'device' : 'local' // as ssb-config has it
  return {
    path: c.dir,
    keys: c.keys,
    caps: Object.assign({ shs: c.shs }, c.sign ? { sign: c.sign } : null),
    connections: {
      incoming: { net: [{ scope, transform: 'shs', host: c.host, port: c.port }] },
      outgoing: { net: [{ transform: 'shs' }] }
    },
    timers: { connection: 0, reconnect: 5e3, ping: 5 * 60e3, handshake: 5e3, inactivity: 10 * 60e3 },
    friends: { hops: c.hops },
    replicate: { hops: c.hops },
    gossip: { friends: false, seed: false, local: !!c.lan, global: !!c.lan, autoPopulate: false, pub: false },
    blobs: Object.assign({ stingy: false }, c.blobs ? { max: c.blobs } : null),
    conn: { autostart: !!(c.lan || c.auto), hops: c.hops, populatePubs: false },
    logging: { level: 'error' }
  }
}

function freePort (host) {
  return new Promise((resolve, reject) => {
    const s = net.createServer()
    s.on('error', reject)
    s.listen(0, host, () => {
      const { port } = s.address()
      s.close(() => resolve(port))
    })
  })
}

const call = (f, ...args) => new Promise((resolve, reject) => {
  f(...args, (err, value) => err ? reject(err) : resolve(value))
})

const collect = (source) => call((cb) => pull(source, pull.collect(cb)))

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function until (what, timeout, done) {
  const end = Date.now() + timeout
  for (;;) {
    const value = await done()
    if (value !== undefined) return value
    if (Date.now() > end) throw new Error(`${what}: not within ${timeout} ms`)
    await sleep(10)
  }
}

// report is all that is known about an error: the libraries nest them.
function report (err) {
  if (!err) return 'unknown error'
  const text = String(err.message || err)
  return err.cause ? `${text}: ${report(err.cause)}` : text
}

// verify checks values, whole feeds in order but interleaved as they like, with the reference validator. It returns their
// ids.
function verify (values, hmac) {
  let state = V.initial()
  const keys = []
  for (const [i, value] of values.entries()) {
    const err = V.checkInvalid(state.feeds[value.author] || null, hmac, value)
    if (err) throw new Error(`value ${i}, ${value.author} ${value.sequence}: ${err.message}`)
    state = V.append(state, hmac, value)
    keys.push(V.id(value))
    state.queue = []
  }
  return keys
}

// connections makes the commands of every peer.
function connections (c, sbot, connect) {
  const open = new Map() // id -> connections now
  sbot.on('rpc:connect', (rpc) => {
    open.set(rpc.id, (open.get(rpc.id) || 0) + 1)
    rpc.once('closed', () => {
      const n = open.get(rpc.id) - 1
      n > 0 ? open.set(rpc.id, n) : open.delete(rpc.id)
    })
  })
  return {
    whoami: () => ({ id: sbot.id, address: `net:${c.host}:${c.port}~shs:${c.keys.public.replace(/\.ed25519$/, '')}` }),
    connect: async (address) => { await call(connect, address) },
    disconnect: async (id) => {
      for (const rpc of [...(sbot.peers[id] || [])]) rpc.close(true, () => {})
      await until(`disconnect ${id}`, 5e3, () => open.has(id) ? undefined : true)
    },
    peers: () => [...open.keys()],
    // waitPeer(id, connected, timeout)
    waitPeer: (id, connected = true, timeout = 10e3) =>
      until(`${connected ? 'connection to' : 'end of the connection to'} ${id}`, timeout, () => open.has(id) === connected ? true : undefined),
    close: () => new Promise((resolve) => sbot.close(true, () => resolve(true)))
  }
}

// common makes the commands of a peer that keeps feeds from what its stack can do:
//   sbot     the secret-stack
//   publish  (content, cb), content an object or a boxed string
//   add      (value, cb)
//   clock    (cb) {id: sequence}
//   feed     (id) promise of {key, value} in order of their sequence
//   connect  (address, cb)
function common (c, peer) {
  const { sbot } = peer
  const latest = async (id) => (await call(peer.clock))[id] || 0
  const commands = {
    ...connections(c, sbot, peer.connect),
    publish: async (content) => (await call(peer.publish, content)).key,
    // publishMany(n, {seed, kinds}) publishes n messages of mixed types and returns the last sequence.
    publishMany: async (n, opts) => {
      const make = Contents(c.keys, opts)
      for (let done = 0; done < n; done += 100) {
        await Promise.all(Array.from({ length: Math.min(100, n - done) }, () => call(peer.publish, make())))
      }
      return latest(sbot.id)
    },
    follow: (id) => commands.publish({ type: 'contact', contact: id, following: true }),
    unfollow: (id) => commands.publish({ type: 'contact', contact: id, following: false }),
    block: (id) => commands.publish({ type: 'contact', contact: id, following: false, blocking: true }),
    // feed(id) is an array of {key, value}, all of them, in order.
    feed: async (id) => (await peer.feed(id)).map(({ key, value }) => ({ key, value })),
    latest,
    clock: () => call(peer.clock),
    // waitFeed(id, sequence, timeout) returns the sequence that is there by then.
    waitFeed: (id, sequence, timeout = 30e3) => {
      let seq = 0
      return until(`message ${sequence} of ${id}`, timeout, async () => {
        seq = await latest(id)
        return seq >= sequence ? seq : undefined
      }).catch((err) => { throw new Error(`${err.message}, have ${seq}`) })
    },
    // addRaw(values) stores signed messages and returns one error text or null for each.
    addRaw: (values) => Promise.all(values.map((value) => call(peer.add, value).then(() => null, report))),
    // verify(values) returns their ids or fails.
    verify: (values) => verify(values, c.sign),
    // box(content, recipients) makes private content; unbox(boxed) opens it with this peer's key.
    box: (content, recps) => ssbKeys.box(content, recps),
    unbox: (boxed) => ssbKeys.unbox(boxed, c.keys) || null
  }
  return commands
}

// blobs makes the commands of a peer that keeps blobs.
function blobs (c, sbot) {
  const size = (id) => call(sbot.blobs.size, id)
  const commands = {
    // addBlobs(count, size) adds blobs of random bytes and returns their ids.
    addBlobs: async (count, size) => {
      const ids = []
      for (let i = 0; i < count; i++) {
        const bytes = crypto.randomBytes(size)
        const parts = [] // of odd lengths, as files are read
        for (let at = 0; at < bytes.length; at += 100003) parts.push(bytes.slice(at, at + 100003))
        ids.push(await call((cb) => pull(pull.values(parts), sbot.blobs.add(cb))))
      }
      return ids
    },
    // addBytes(base64) adds one blob and returns its id.
    addBytes: (base64) => call((cb) => pull(pull.once(Buffer.from(base64, 'base64')), sbot.blobs.add(cb))),
    // wantBlobs(ids) wants them and does not wait.
    wantBlobs: (ids) => { for (const id of ids) sbot.blobs.want(id, () => {}) },
    pushBlob: (id) => call(sbot.blobs.push, id),
    // waitBlobs(ids, timeout) waits until all are there, and says which are not those bytes.
    waitBlobs: async (ids, timeout = 60e3) => {
      const left = new Set(ids)
      await until('blobs', timeout, async () => {
        for (const id of left) {
          if (!await call(sbot.blobs.has, id)) return undefined
          left.delete(id)
        }
        return true
      }).catch((err) => { throw new Error(`${err.message}, ${left.size} of ${ids.length} are missing`) })
      const wrong = []
      for (const id of ids) {
        const hash = crypto.createHash('sha256')
        await call((cb) => pull(sbot.blobs.get(id), pull.drain((part) => { hash.update(part) }, cb)))
        if (`&${hash.digest('base64')}.sha256` !== id) wrong.push(id)
      }
      return wrong
    },
    blobSize: size
  }
  return commands
}

// serve says that the peer is ready and answers commands until stdin ends or the peer was closed.
async function serve (commands) {
  let closing = false
  const end = async () => {
    if (closing) return
    closing = true
    setTimeout(() => process.exit(0), 3e3).unref()
    try { await commands.close() } catch (err) { console.error('close', err) }
    process.exit(0)
  }
  process.on('SIGTERM', end)
  process.on('SIGINT', end)
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity })
  lines.on('close', end)
  lines.on('line', async (line) => {
    let req = null
    try {
      const command = JSON.parse(line)
      req = command.req
      if (!Object.hasOwn(commands, command.cmd)) throw new Error(`no command ${command.cmd}`)
      if (command.cmd === 'close') closing = true
      const result = await commands[command.cmd](...(command.args || []))
      say({ req, result: result === undefined ? null : result })
      if (command.cmd === 'close') process.stdout.write('', () => process.exit(0))
    } catch (err) {
      say({ req, error: report(err) })
    }
  })
  say(Object.assign({ ready: true }, commands.whoami()))
}

module.exports = { blobs, call, collect, common, config, connections, freePort, report, serve, stack, until }
