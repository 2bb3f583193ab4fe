'use strict'
// A peer that runs npm ssb-server with the plugins that `ssb-server start` uses, without those that only serve local apps and, unless
// they are asked for, those that listen elsewhere or look for neighbours (ssb-local, ssb-ws, ssb-onion, ssb-unix-socket, ssb-no-auth).
// With apps it also listens at dir/socket.

const { createRequire } = require('module')
const { blobs, call, collect, common, config, freePort, serve, stack } = require('./lib/driver')

const inside = createRequire(require.resolve('ssb-server')) // its own versions of its plugins
const ref = inside('ssb-ref')

// forApps are the plugins that apps of the time brought along, or asked their users to install.
const forApps = ['ssb-backlinks', 'ssb-private', 'ssb-search', 'ssb-about', 'ssb-names', 'ssb-suggest', 'ssb-tangle', 'ssb-meme', 'ssb-unread', 'ssb-partial-replication']

async function main () {
  const c = config()
  c.port = c.port || await freePort(c.host)
  const plugins = ['ssb-private1', 'ssb-master', 'ssb-gossip', 'ssb-replicate', 'ssb-friends', 'ssb-blobs', 'ssb-ooo']
  if (c.ebt) plugins.push('ssb-ebt')
  if (c.invites) plugins.push('ssb-invite', 'ssb-ws') // "modern" invites are to addresses of WebSockets
  if (c.lan) plugins.push('ssb-local')
  if (c.apps) plugins.push('ssb-unix-socket', 'ssb-no-auth', 'ssb-query', 'ssb-links')
  const Server = inside('ssb-server').createSsbServer()
  for (const name of plugins) Server.use(inside(name))
  for (const name of c.apps ? forApps : []) Server.use(require(name))
  const settings = stack(c)
  if (c.lan) settings.port = c.port // where ssb-local sends to, and listens
  if (c.invites) {
    settings.connections.incoming.net[0].scope = 'public' // it makes invites to public addresses
    settings.connections.incoming.ws = [{ scope: 'public', transform: 'shs', host: c.host, port: await freePort(c.host) }]
    settings.allowPrivate = true // on loopback all the same
  }
  if (c.apps) settings.connections.incoming.unix = [{ scope: 'private', transform: 'noauth' }]
  // Some arguments of apps end it. It stays here, so that many can be tried; who called gets no answer.
  if (c.apps) process.on('uncaughtException', (err) => console.error('crash:', err.stack))
  const sbot = Server(settings)
  const listening = new Promise((resolve) => sbot.on('multiserver:listening', resolve))

  const commands = common(c, {
    sbot,
    publish: (content, cb) => sbot.publish(content, cb),
    add: (value, cb) => sbot.add(value, cb),
    clock: (cb) => sbot.getVectorClock(cb),
    feed: (id) => collect(sbot.createHistoryStream({ id, keys: true, values: true })),
    connect: (address, cb) => {
      // ssb-gossip would dial the first address that it ever learned of this key.
      const key = ref.getKeyFromAddress(address)
      if (sbot.gossip.get(key)) sbot.gossip.remove(key)
      sbot.gossip.connect(address, cb)
    }
  })
  Object.assign(commands, blobs(c, sbot))
  if (c.invites) {
    // createInvite(uses | {uses, modern, ...}) and acceptInvite(code) are those of npm ssb-invite.
    commands.createInvite = (opts) => call(sbot.invite.create, opts)
    commands.acceptInvite = (code) => call(sbot.invite.accept, code)
  }
  await listening
  await serve(commands)
}

main()
