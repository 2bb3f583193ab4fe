'use strict'
// The rival: secret-stack with ssb-db2 and ssb-ebt with their own defaults, spoken to as interop's peers are (one JSON line a
// command). It takes its packages from interop/js, whose lock file pins them: run it with NODE_PATH=interop/js/node_modules.

const fs = require('fs')
const readline = require('readline')
const SecretStack = require('secret-stack')
const { call, config, connections, freePort, serve, stack } = require('../../interop/js/lib/driver')

const BLOCK = 60e3 // bytes of JSON, which is a little longer than what the log keeps, in blocks of 64 KiB

async function main () {
  const c = config()
  c.port = c.port || await freePort(c.host)
  const sbot = SecretStack({ caps: { shs: c.shs } })
    .use(require('ssb-db2'))
    .use(require('ssb-db2/compat'))
    .use(require('ssb-db2/compat/feedstate'))
    .use(require('ssb-ebt'))(stack(c))
  await new Promise((resolve) => sbot.on('multiserver:listening', resolve))
  sbot.ebt.request(sbot.id, true)

  const flushed = () => new Promise((resolve) => sbot.db.getLog().onDrain(resolve))
  const count = async () => {
    const clock = await call(sbot.getVectorClock)
    let n = 0
    for (const id in clock) n += clock[id]
    return n
  }
  await serve({
    ...connections(c, sbot, (address, cb) => sbot.connect(address, cb)),
    // load(file) stores the messages of a file of JSON lines with addTransaction, which validates them: of one feed at a time, as
    // many as fit into a block of its log, the most that it takes. It returns the seconds from the first call until the log was written; reading the file is not counted.
    load: async (file) => {
      const feeds = new Map() // feed -> transactions
      for await (const line of readline.createInterface({ input: fs.createReadStream(file) })) {
        const { value } = JSON.parse(line)
        if (!feeds.has(value.author)) feeds.set(value.author, [])
        const parts = feeds.get(value.author)
        let last = parts[parts.length - 1]
        if (!last || last.size + line.length > BLOCK) parts.push(last = { values: [], size: 0 })
        last.values.push(value)
        last.size += line.length
      }
      const began = process.hrtime.bigint()
      for (const parts of feeds.values()) {
        for (const { values } of parts) await call(sbot.db.addTransaction, values, [])
      }
      await flushed()
      return Number(process.hrtime.bigint() - began) / 1e9
    },
    request: (ids) => {
      for (const id of ids) sbot.ebt.request(id, true)
    },
    count,
    // take(n) answers, in seconds, how long it took until n messages are held.
    take: async (n) => {
      const began = process.hrtime.bigint()
      while (await count() < n) await new Promise((resolve) => setTimeout(resolve, 20))
      await flushed()
      return Number(process.hrtime.bigint() - began) / 1e9
    }
  })
}

main()
