'use strict'
// A room of version 1: npm ssb-room's own plugins as its index.js puts them together, without its web server, which listens
// at a fixed port, and its logging.

const fs = require('fs')
const path = require('path')
const SecretStack = require('secret-stack')
const { collect, config, connections, freePort, serve, stack, until } = require('./lib/driver')
const pull = require('pull-stream')

async function main () {
  const c = config()
  c.port = c.port || await freePort(c.host)
  const settings = stack(c)
  settings.connections.incoming.net[0].scope = 'public' // as ssb-room has it; the address is on loopback all the same
  const sbot = SecretStack({ caps: { shs: c.shs } })
    .use(require('ssb-conn'))
    .use(require('ssb-room/invite'))
    .use(require('ssb-room/tunnel/server'))
    .use(require('ssb-room/ssb-shims'))(settings)
  const listening = new Promise((resolve) => sbot.on('multiserver:listening', resolve))

  // here() is who is in the room.
  const here = async () => (await collect(pull(sbot.tunnel.endpoints(), pull.take(1))))[0]
  await listening
  await serve({
    ...connections(c, sbot, (address, cb) => sbot.conn.connect(address, cb)),
    here,
    // waitHere(id, is, timeout) waits until somebody is in the room, or no longer is.
    waitHere: (id, is = true, timeout = 10e3) =>
      until(`${id} ${is ? 'in' : 'out of'} the room`, timeout, async () => (await here()).includes(id) === is ? true : undefined),
    // name(name, description) is what the form on its web page does; before it, isRoom answers true.
    name: (name, description) => fs.writeFileSync(path.join(c.dir, 'roomcfg'), JSON.stringify({ name, description })),
    // invite() is the code that its web page shows, the same for everybody.
    invite: () => sbot.invite.get()
  })
}

main()
