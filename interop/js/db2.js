'use strict'
// A peer that runs secret-stack with ssb-db2, ssb-friends, ssb-conn and ssb-ebt, as the JS apps of today do. It has no
// config.caps.sign: ssb-db2 8 verifies without an HMAC key whatever the configuration says.

const pull = require('pull-stream')
const SecretStack = require('secret-stack')
const { where, author, toPullStream } = require('ssb-db2/operators')
const { reEncrypt } = require('ssb-db2/indexes/private')
const { blobs, collect, common, config, freePort, report, serve, stack, until } = require('./lib/driver')

async function main () {
  const c = config()
  if (c.sign) throw new Error('ssb-db2 knows no HMAC key')
  c.port = c.port || await freePort(c.host)
  const Stack = SecretStack({ caps: { shs: c.shs } })
    .use(require('ssb-db2'))
    .use(require('ssb-db2/compat'))
    .use(require('ssb-db2/compat/feedstate'))
    .use(require('ssb-friends'))
    .use(require('ssb-conn'))
  if (c.ebt) Stack.use(require('ssb-ebt'))
  if (c.blobs) Stack.use(require('ssb-blobs'))
  const settings = Object.assign(stack(c), { db2: { addBatchThrottle: 20 } })
  if (c.rooms) {
    Stack.use(require('ssb-room-client'))
    settings.connections.incoming.tunnel = [{ scope: 'public', transform: 'shs' }]
    settings.connections.outgoing.tunnel = [{ transform: 'shs' }]
  }
  if (c.lan) Stack.use(require('ssb-lan'))
  const sbot = Stack(settings)
  const listening = new Promise((resolve) => sbot.on('multiserver:listening', resolve))

  const clock = (cb) => sbot.getVectorClock(cb)
  const request = c.ebt ? (id, want) => sbot.ebt.request(id, want) : History(sbot, clock)

  // What ssb-replication-scheduler does of this: whoever is within range is asked for, and blocks are obeyed.
  pull(
    sbot.friends.hopStream({ live: true, old: true }),
    pull.drain((hops) => {
      for (const id in hops) request(id, hops[id] >= 0 && hops[id] <= c.hops)
    })
  )
  request(sbot.id, true)
  if (c.ebt) {
    pull(
      sbot.friends.graphStream({ live: true, old: true }),
      pull.drain((graph) => {
        for (const from in graph) {
          for (const to in graph[from]) sbot.ebt.block(from, to, graph[from][to] === -1)
        }
      })
    )
  }

  const commands = common(c, {
    sbot,
    publish: (content, cb) => sbot.db.create({ content, keys: c.keys, timestamp: clockTick() }, cb),
    add: (value, cb) => sbot.db.add(value, cb),
    clock,
    // Sorted here: the database sorts by the time that messages claim.
    feed: async (id) => (await collect(sbot.db.query(where(author(id)), toPullStream())))
      .map(reEncrypt).sort((a, b) => a.value.sequence - b.value.sequence),
    connect: (address, cb) => sbot.conn.connect(address, cb)
  })
  if (c.blobs) Object.assign(commands, blobs(c, sbot))
  if (c.rooms) {
    const met = new Map() // room -> ids that were ever in it, as ssb-room-client tells ssb-conn
    pull(sbot.roomClient.discoveredAttendants(), pull.drain(({ room, key }) => {
      if (!met.has(room)) met.set(room, new Set())
      met.get(room).add(key)
    }))
    // waitMet(room, id, timeout) waits until a room has said that somebody is in it. The room is connected then, so a tunnel to
    // them can be dialled: connect('tunnel:ROOM:ID~shs:KEY').
    commands.waitMet = (room, id, timeout = 10e3) =>
      until(`${id} met in ${room}`, timeout, () => met.has(room) && met.get(room).has(id) ? true : undefined)
  }
  await listening
  await serve(commands)
}

// clockTick is the time of day, with a fraction when needed to be above the last one, as ssb-db writes it. ssb-db2 itself
// gives all messages of one millisecond the same time, and then its createHistoryStream sends them in any order.
let last = 0
function clockTick () {
  const now = Date.now()
  last = now > last ? now : last + 1 / 1024
  return last
}

// History replicates with createHistoryStream alone: one live stream per wanted feed and connection.
function History (sbot, clock) {
  const wanted = new Set()
  const open = new Set()
  const ask = (rpc, id) => clock((err, have) => {
    if (err || rpc.closed) return
    pull(
      rpc.createHistoryStream({ id, seq: (have[id] || 0) + 1, live: true, keys: false }),
      pull.asyncMap((value, cb) => sbot.db.add(value, (err) => {
        if (err) console.warn('add', report(err))
        cb(null, value)
      })),
      pull.drain(() => {}, (err) => { if (err && err !== true) console.warn('history', id, report(err)) })
    )
  })
  sbot.on('rpc:connect', (rpc) => {
    open.add(rpc)
    rpc.once('closed', () => open.delete(rpc))
    for (const id of wanted) ask(rpc, id)
  })
  return (id, want) => {
    if (want && !wanted.has(id) && id !== sbot.id) {
      wanted.add(id)
      for (const rpc of open) ask(rpc, id)
    }
    if (!want) wanted.delete(id)
  }
}

main()
