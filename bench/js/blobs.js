'use strict'
// The rival in the exchange of blobs: secret-stack with ssb-blobs and nothing else, spoken to as db2.js is.

const crypto = require('crypto')
const pull = require('pull-stream')
const SecretStack = require('secret-stack')
const { call, config, connections, freePort, serve, stack } = require('../../interop/js/lib/driver')

async function main () {
  const c = config()
  c.port = c.port || await freePort(c.host)
  const sbot = SecretStack({ caps: { shs: c.shs } }).use(require('ssb-blobs'))(stack(c))
  await new Promise((resolve) => sbot.on('multiserver:listening', resolve))
  await serve({
    ...connections(c, sbot, (address, cb) => sbot.connect(address, cb)),
    // add(size) adds a blob of random bytes, in parts of 64 KiB, and returns its id.
    add: (size) => {
      const bytes = crypto.randomBytes(size)
      const parts = []
      for (let at = 0; at < size; at += 65536) parts.push(bytes.slice(at, at + 65536))
      return call((cb) => pull(pull.values(parts), sbot.blobs.add(cb)))
    },
    // want(id) answers when the blob is here, in seconds since the call.
    want: async (id) => {
      const began = process.hrtime.bigint()
      await call(sbot.blobs.want, id)
      return Number(process.hrtime.bigint() - began) / 1e9
    }
  })
}

main()
