'use strict'
// Asks a server, through npm ssb-client, all that lib/calls.js lists, and writes what it answered.
//
//   argv[2]  {"remote": multiserver address, "keys": {...}, "shs": network key, "messages": file of {key, value} lines, "port" and "dir" of the server}
//   stdout   {"call": "method argument ...", "answer": ...}                 async, sync, and sinks: what is sent stands first among the arguments
//            {"call": ..., "items": [...], "ended": true}                   sources
//            {"call": ..., "error": {"name", "message"}}                    either; of a source behind its items
//
// What must differ between two servers that hold the same is replaced by its name: the times at which messages arrived and all
// that belongs to messages which the server signed, in keys, values, and texts. Fields "rts" are left out where the method does not
// give them by itself: npm ssb-server 16 shows in all others what its indexes leave behind on shared objects.

const fs = require('fs')
const pull = require('pull-stream')
const Client = require('ssb-client')
const V = require('ssb-validate')
const Calls = require('./lib/calls')

const patience = 30e3 // ms for an answer: npm ssb-ooo asks peers for five seconds, and computers may be busy
const together = 8 // reads at a time
const doomed = 3e3 // ms for an answer that npm ssb-server does not give, as it has crashed
const quiet = 1e3 // ms without news: all live streams have said what they have to say
const most = 5000 // items of one source

async function main () {
  const c = JSON.parse(process.argv[2])
  const held = fs.readFileSync(c.messages, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line))
  const connect = () => new Promise((resolve, reject) => {
    Client(c.keys, { remote: c.remote, caps: { shs: c.shs } }, (err, rpc) => err ? reject(err) : resolve(rpc))
  })
  const rpc = await connect()
  const manifest = await new Promise((resolve, reject) => rpc.manifest((err, m) => err ? reject(err) : resolve(m)))
  const names = new Names(c)
  const table = Calls(c.keys, held)
  const lines = []

  const asked = new Set()
  rpc.on('closed', () => {
    console.error(`the connection ended while this was asked: ${[...asked].join('; ')}`)
    process.exit(1)
  })

  const kindOf = (method) => method.split('.').reduce((m, part) => m && m[part], manifest)
  const bound = (rpc, method) => {
    const path = method.split('.')
    const last = path.pop()
    const on = path.reduce((o, part) => o[part], rpc)
    return on[last].bind(on)
  }
  const insert = (v) => { // names of lib/calls.js become what they stand for
    if (typeof v === 'string' && v[0] === '~') return names.stands(v, table.names)
    if (Array.isArray(v)) return v.map(insert)
    if (v && typeof v === 'object') {
      if (v['~received']) return names.received(insert(v['~received']))
      return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, insert(x)]))
    }
    return v
  }
  const title = (call) => call.map((x, i) => i ? JSON.stringify(x) : x).join(' ')
  const fail = (err) => ({ name: String(err.name), message: String(err.message) })

  const ask = (rpc, method, args, patience) => new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ error: { name: 'timeout', message: 'no answer' } }), patience)
    const done = (answer) => { clearTimeout(timer); resolve(answer) }
    try {
      bound(rpc, method)(...args, (err, answer) => done(err ? { error: fail(err) } : { answer: answer === undefined ? null : answer }))
    } catch (err) {
      done({ error: fail(err) })
    }
  })
  const send = (rpc, method, [content, ...args], patience) => new Promise((resolve) => {
    const timer = setTimeout(() => resolve({ error: { name: 'timeout', message: 'no answer' } }), patience)
    // The client is told when all is sent, and not when the server has it.
    const done = (answer) => { clearTimeout(timer); setTimeout(() => resolve(answer), 300) }
    const bytes = Buffer.from(content)
    const pieces = [bytes.subarray(0, bytes.length >> 1), bytes.subarray(bytes.length >> 1)].filter((b) => b.length)
    pull(pull.values(pieces), bound(rpc, method)(...args, (err, answer) => done(err ? { error: fail(err) } : { answer: answer === undefined ? null : answer })))
  })
  const collect = (rpc, method, args, patience) => { // without patience it is live
    const line = { items: [] }
    let last = Date.now()
    let abort = () => {}
    const ended = new Promise((resolve) => {
      const timer = patience && setTimeout(() => { line.error = { name: 'timeout', message: 'no end' }; abort(); resolve() }, patience)
      const drain = pull.drain((item) => {
        last = Date.now()
        line.items.push(item)
        return line.items.length < most
      }, (err) => {
        clearTimeout(timer)
        if (err && err !== true) line.error = fail(err)
        else line.ended = true
        resolve()
      })
      try {
        pull(bound(rpc, method)(...args), drain)
        abort = () => { const soFar = { ...line, items: line.items.slice() }; drain.abort(); Object.assign(line, { ended: undefined, error: undefined }, soFar); resolve() }
      } catch (err) {
        clearTimeout(timer)
        line.error = fail(err)
        resolve()
      }
    })
    return { line, ended, stop: () => abort(), last: () => last }
  }

  // run asks once; nothing when there is no such method: the manifest tells.
  async function run ({ call, label, unanswered, ...how }) {
    const [method, ...args] = call
    const kind = kindOf(method)
    if (!kind) return
    const line = { call: title(call) }
    const given = insert(args)
    const server = unanswered ? await connect() : rpc // who crashes does not hear more from that connection
    const ms = unanswered ? doomed : patience
    asked.add(line.call)
    if (kind === 'source') {
      const stream = collect(server, method, given, ms)
      await stream.ended
      Object.assign(line, stream.line)
    } else if (kind === 'sink') { // its first argument is what is sent
      Object.assign(line, await send(server, method, given, ms))
    } else {
      Object.assign(line, await ask(server, method, given, ms))
    }
    asked.delete(line.call)
    if (unanswered) server.close(true, () => {})
    if (label && (line.items || line.answer)) names.learn(label, line.items || line.answer)
    return { line, how: { method, ...how } }
  }

  lines.push(await run(table.reads[0])) // the log: it tells when messages arrived
  for (const end = Date.now() + patience; Date.now() < end;) { // until the indexes know it
    const { answer } = await ask(rpc, 'progress', [], patience)
    if (answer && answer.indexes.current === answer.indexes.target) break
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const reads = table.reads.slice(1)
  const answers = new Array(reads.length)
  let next = 0
  await Promise.all(Array.from({ length: together }, async () => {
    while (next < reads.length) {
      const i = next++
      answers[i] = reads[i].unanswered ? null : await run(reads[i])
    }
  }))
  await Promise.all(reads.map(async (call, i) => { if (call.unanswered) answers[i] = await run(call) }))
  lines.push(...answers)

  const live = table.live.filter(({ call: [method] }) => kindOf(method))
    .map(({ call, ...how }) => ({ call, how, stream: collect(rpc, call[0], insert(call.slice(1))) }))
  const settled = async () => {
    let since = Date.now()
    while (Date.now() - since < quiet) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      since = Math.max(since, ...live.map(({ stream }) => stream.last()))
    }
  }
  await settled()
  for (const call of table.writes) {
    await new Promise((resolve) => setTimeout(resolve, 3)) // messages are told apart by when they were signed, in milliseconds
    lines.push(await run(call))
  }
  await settled()
  for (const { call, how, stream } of live) {
    stream.stop()
    await stream.ended
    lines.push({ line: Object.assign({ call: title(call) }, stream.line), how: { method: call[0], ...how } })
  }
  for (const call of [...table.after, ...table.last]) {
    if (call.label) await new Promise((resolve) => setTimeout(resolve, 3))
    lines.push(await run(call))
  }

  await new Promise((resolve, reject) => pull(rpc.createLogStream(), pull.drain((m) => names.arrived(m), (err) => err ? reject(err) : resolve())))
  const out = lines.filter(Boolean).map(({ line, how }) => JSON.stringify(names.plain(line, how)) + '\n')
  process.stdout.write(out.join(''), () => process.exit(0))
}

// Names knows what to call that which differs between servers.
class Names {
  constructor (c) {
    this.texts = new Map() // what to replace -> its name
    this.signed = new Map() // the time -> its name
    this.arrivals = new Map() // the same
    this.labels = new Map() // label -> KVT
    this.times = new Map() // key -> when it arrived
    this.port = String(c.port)
    this.dir = c.dir
  }

  // stands is what a name of a table stands for: "~me", "~%note" the id of what was published under a label.
  stands (name, all) {
    if (name.slice(1) in all) return all[name.slice(1)]
    const [, kind, label] = name.match(/^~(%|boxed |message )(.*)$/) || []
    const m = this.labels.get(label)
    if (kind && !m) return `${label} was not published`
    if (kind) return { '%': m.key, 'boxed ': m.value.content, 'message ': m }[kind]
    throw new Error(`no name ${name} in lib/calls.js`)
  }

  received (key) {
    if (!this.times.has(key)) throw new Error(`${key} was not seen in the log: list createLogStream first`)
    return this.times.get(key)
  }

  arrived ({ key, timestamp }) {
    this.times.set(key, timestamp)
    this.arrivals.set(timestamp, `when ${this.texts.get(key) || key} arrived`)
  }

  learn (label, answer) {
    if (Array.isArray(answer)) { // a log
      for (const m of answer) this.arrived(m)
      return
    }
    const { key, value } = answer
    const unbox = answer.unbox || (value && value.unbox)
    if (unbox) this.texts.set(unbox, `the key of ${label}`)
    if (!value) return
    this.labels.set(label, answer)
    this.texts.set(key, `%${label}`)
    this.texts.set(value.signature, `the signature of ${label}`)
    this.signed.set(value.timestamp, `when ${label} was signed`)
    if (typeof value.content === 'string') this.texts.set(value.content, `what is boxed in ${label}`)
  }

  text (s) {
    if (this.texts.has(s)) return this.texts.get(s)
    if (s.length < 1000) {
      for (const [from, to] of this.texts) if (s.includes(from)) s = s.split(from).join(to)
      s = s.split(`:${this.port}`).join(':PORT').split(this.dir).join('DIR')
    }
    return s
  }

  plain (line, { method, shape, seqs }) {
    const own = /^(query|backlinks|private|links2|search|threads)\./.test(method)
    const time = (v, arrived) => {
      const maps = arrived ? [this.arrivals, this.signed] : [this.signed, this.arrivals]
      return maps.map((m) => m.get(v)).find(Boolean) || v
    }
    const walk = (v, field, of = {}) => {
      if (typeof v === 'string') return this.text(v)
      if (typeof v === 'number') return field === 'port' && String(v) === this.port ? 'PORT' : time(v, field === 'timestamp' && 'key' in of)
      if (Array.isArray(v)) return v.map((x) => walk(x))
      if (!v || typeof v !== 'object') return v
      const out = {}
      for (const [k, x] of Object.entries(v)) {
        if (!own && k === 'rts' && 'value' in v) continue
        if (seqs && k === 'seq') continue
        out[this.text(k)] = walk(x, k, v)
      }
      if (this.texts.has(v.signature)) { // after what one server published and the other refused, these differ
        out.sequence = 'the next'
        out.previous = 'the one before'
        for (const o of [out, out.meta]) if (o && o.unbox) o.unbox = 'its key'
      }
      if (typeof v.key === 'string' && v.value && v.value.signature && !v.value.private && V.id(v.value) !== v.key) {
        out.wrong = `the value's id is ${V.id(v.value)}`
      }
      return out
    }
    const out = { call: line.call }
    const form = shape ? (v) => shapeOf(walk(v)) : walk
    if ('answer' in line) out.answer = form(line.answer)
    if (line.items) out.items = line.items.map((item) => form(item))
    if (line.ended) out.ended = true
    if (line.error) out.error = walk(line.error)
    return out
  }
}

// shapeOf is which fields there are and of which types. What stands under ids and addresses is taken together.
function shapeOf (v) {
  if (Array.isArray(v)) return v.length ? [v.map(shapeOf).reduce(merge)] : []
  if (!v || typeof v !== 'object') return v === null ? 'null' : typeof v
  const out = {}
  for (const [k, x] of Object.entries(v)) {
    const name = /^[@%&]|^(net|ws|unix|tunnel|onion):/.test(k) ? k[0] : k
    out[name] = name in out ? merge(out[name], shapeOf(x)) : shapeOf(x)
  }
  return out
}

function merge (a, b) {
  if (typeof a !== 'object' || typeof b !== 'object' || Array.isArray(a) || Array.isArray(b)) return a
  const out = { ...a }
  for (const [k, x] of Object.entries(b)) out[k] = k in out ? merge(out[k], x) : x
  return out
}

main().catch((err) => { console.error(err); process.exit(1) })
