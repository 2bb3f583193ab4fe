'use strict'
// A peer that keeps nothing and sends whatever it is told to, over createHistoryStream and EBT: messages that were changed,
// left out, swapped, or made by the same key twice. It speaks the protocol rightly otherwise.

const pull = require('pull-stream')
const Pushable = require('pull-pushable')
const SecretStack = require('secret-stack')
const { config, connections, freePort, report, serve, stack, until } = require('./lib/driver')

async function main () {
  const c = config()
  c.port = c.port || await freePort(c.host)
  const offered = new Map() // feed -> values, in the order they are sent
  const streams = new Set() // open EBT streams
  const seen = [] // what the other side did
  const note = (id, what, more) => seen.push(Object.assign({ peer: id, what }, more))

  const history = (id, opts) => {
    note(id, 'createHistoryStream', { opts })
    const from = opts.sequence || opts.seq || 0
    const values = (offered.get(opts.id) || []).filter((v) => !(v.sequence < from))
    return pull(
      pull.values(values.map((value) => opts.keys === false ? value : { key: null, value, timestamp: Date.now() })),
      (source) => (abort, cb) => {
        if (abort) note(id, 'createHistoryStream ended', { feed: opts.id, error: abort === true ? null : report(abort) })
        source(abort, cb)
      }
    )
  }

  // An EBT stream: our note says that we have all that is offered and want nothing; what the other side wants it gets.
  const ebt = (id) => {
    const out = Pushable((err) => note(id, 'ebt aborted', { error: err && err !== true ? report(err) : null }))
    const stream = {
      out,
      tell: () => {
        const clock = {}
        for (const [feed, values] of offered) clock[feed] = Math.max(...values.map((v) => v.sequence)) << 1 | 1
        out.push(clock)
      }
    }
    streams.add(stream)
    return {
      stream,
      duplex: {
        source: out,
        sink: pull.drain((data) => {
          if (data && data.author && data.content) return note(id, 'message', { author: data.author, sequence: data.sequence })
          note(id, 'note', { clock: data })
          for (const feed in data) {
            if (data[feed] < 0 || data[feed] & 1) continue
            for (const value of offered.get(feed) || []) {
              if (value.sequence > data[feed] >> 1) out.push(value)
            }
          }
        }, (err) => {
          streams.delete(stream)
          note(id, 'ebt ended', { error: err && err !== true ? report(err) : null })
          out.end()
        })
      }
    }
  }

  const sbot = SecretStack({ caps: { shs: c.shs } })
    .use({
      manifest: { createHistoryStream: 'source' },
      permissions: { anonymous: { allow: ['createHistoryStream'] } },
      init: () => ({ createHistoryStream (opts) { return history(this.id, opts) } })
    })
    .use({
      name: 'ebt',
      manifest: { replicate: 'duplex' },
      permissions: { anonymous: { allow: ['replicate'] } },
      init: () => ({
        replicate () {
          if (!c.ebt) throw new Error('no ebt here')
          const { stream, duplex } = ebt(this.id)
          stream.tell()
          return duplex
        }
      })
    })(stack(c))
  sbot.on('rpc:connect', (rpc, isClient) => {
    if (!isClient || !c.ebt) return
    const { stream, duplex } = ebt(rpc.id)
    pull(duplex, rpc.ebt.replicate({ version: 3 }, () => {}), duplex)
    stream.tell()
  })
  const listening = new Promise((resolve) => sbot.on('multiserver:listening', resolve))

  await listening
  await serve({
    ...connections(c, sbot, (address, cb) => sbot.connect(address, cb)),
    // offer(feed, values): from now on this is the feed, in the order given; it is announced on open streams.
    offer: (feed, values) => {
      values.length ? offered.set(feed, values) : offered.delete(feed)
      for (const stream of streams) stream.tell()
    },
    // push(values) sends values on all open EBT streams, asked for or not, and says on how many.
    push: (values) => {
      for (const stream of streams) for (const value of values) stream.out.push(value)
      return streams.size
    },
    // seen() is what the other side did so far: [{peer, what, ...}].
    seen: () => seen,
    // waitSeen(what, n, timeout) waits for the n-th of a kind.
    waitSeen: (what, n = 1, timeout = 10e3) =>
      until(`${what} ${n}`, timeout, () => seen.filter((s) => s.what === what)[n - 1])
  })
}

main()
