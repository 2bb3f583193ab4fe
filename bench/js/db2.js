'use strict'
// The rival: secret-stack with ssb-db2 and ssb-ebt with their own defaults, spoken to as interop's peers are (one JSON line a
// command). It takes its packages from interop/js, whose lock file pins them: run it with NODE_PATH=interop/js/node_modules.

const SecretStack = require('secret-stack')
const { call, config, connections, freePort, serve, stack } = require('../../interop/js/lib/driver')
const load = require('./load')

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
    load: load(sbot),
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
