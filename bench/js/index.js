'use strict'
// The rival of the index: ssb-db2 with its own indexes, those of ssb-search2 and ssb-threads, and the bitmaps that jitdb makes for what
// is asked. It answers from inside its process: no socket, no other program. ssb-friends, which would have to look at each author, is
// not there. Spoken to as interop's peers are; packages as for db2.js.

const fs = require('fs')
const path = require('path')
const pull = require('pull-stream')
const SecretStack = require('secret-stack')
const { call, config, connections, freePort, serve, stack } = require('../../interop/js/lib/driver')
const load = require('./load')
const { and, or, where, type, author, about, contact, mentions, hasRoot, hasFork, votesFor, isPublic, isPrivate, descending, live, paginate, toCallback, toPullStream } = require('ssb-db2/operators')
const { hasHashtagOperator } = require('ssb-threads/lib/hashtags').default

async function main () {
  const began = process.hrtime.bigint()
  const c = config()
  c.port = c.port || await freePort(c.host)
  if (c.rebuild) for (const name of ['indexes', 'jit']) fs.rmSync(path.join(c.dir, 'db2', name), { recursive: true, force: true })
  const sbot = SecretStack({ caps: { shs: c.shs } })
    .use(require('ssb-db2'))
    .use(require('ssb-db2/compat'))
    .use(require('ssb-db2/about-self'))
    .use(require('ssb-db2/full-mentions'))
    .use(require('ssb-search2'))
    .use(require('ssb-threads'))(stack(c))
  await new Promise((resolve) => sbot.on('multiserver:listening', resolve))

  const page = (n, ...ops) => (cb) => sbot.db.query(where(and(...ops)), descending(), paginate(n), toCallback((err, page) => cb(err, page && page.results)))
  const first = (n, source) => (cb) => pull(source, pull.take(n), pull.collect(cb))
  // What is asked; each gets what it is asked about, and answers with an array.
  const questions = {
    threads: () => first(50, sbot.threads.publicSummary({ allowlist: ['post'] })),
    thread: (root) => (cb) => pull(sbot.threads.thread({ root }), pull.collect((err, all) => cb(err, all && all[0].messages))),
    profile: (id) => (cb) => sbot.db.onDrain('aboutSelf', () => cb(null, [sbot.db.getIndex('aboutSelf').getProfile(id)])),
    hashtag: (tag) => page(50, hasHashtagOperator([tag])),
    mentions: (id) => page(50, type('post'), mentions(id)),
    typed: (id) => page(50, type('post'), author(id)),
    words: (text) => page(50, sbot.search2.operator(text)),
    log: () => first(1000, sbot.createLogStream({ reverse: true }))
  }
  const nobody = sbot.id
  const nothing = '%' + Buffer.alloc(32).toString('base64') + '.sha256'
  await serve({
    ...connections(c, sbot, (address, cb) => sbot.connect(address, cb)),
    load: load(sbot),
    // build answers, in seconds, how long it took from the start of the process until all that is asked of was indexed.
    build: async () => {
      for (const name of ['base', 'keys', 'aboutSelf', 'fullMentions', 'search2', 'hashtags']) {
        if (!sbot.db.getIndexes()[name]) throw new Error(`no index ${name}`)
        await new Promise((resolve) => sbot.db.onDrain(name, resolve))
      }
      // One query for all bitmaps, so that the log is read once for them.
      await call(page(1, or(type('post'), type('vote'), type('about'), type('contact'), author(nobody), hasRoot(nothing), hasFork(nothing), votesFor(nothing),
        mentions(nobody), about(nobody), contact(nobody), isPublic(), isPrivate())))
      return Number(process.hrtime.bigint() - began) / 1e9
    },
    // time(what, about, warm, patience) asks about each in turn and answers with milliseconds and how many answers there were. The first
    // `warm` do not count, or those of the first 2 * patience seconds; the others are asked for patience seconds at most.
    time: async (what, about, warm, patience) => {
      const took = []
      const cold = Date.now() + 2e3 * patience
      let end
      let found = 0
      for (const [i, x] of about.entries()) {
        const began = process.hrtime.bigint()
        const all = await call(questions[what](x))
        if (i < warm && Date.now() < cold) continue
        end = end || Date.now() + 1e3 * patience
        took.push(Number(process.hrtime.bigint() - began) / 1e6)
        found += all.length
        if (Date.now() > end) break
      }
      return { took, found }
    },
    // live(n) publishes n posts, one after the other, and answers with the milliseconds until a live query of posts shows each.
    live: async (n) => {
      const took = []
      let seen = () => {}
      pull(sbot.db.query(where(type('post')), live(), toPullStream()), pull.drain((m) => seen(m)))
      for (let i = 0; i < n; i++) {
        const began = process.hrtime.bigint()
        const shown = new Promise((resolve) => { seen = (m) => { if (m.value.content.text === `live ${i}`) resolve() } })
        await call(sbot.db.publish, { type: 'post', text: `live ${i}` })
        await shown
        took.push(Number(process.hrtime.bigint() - began) / 1e6)
      }
      return took
    }
  })
}

main()
