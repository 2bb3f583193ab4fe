'use strict'
// The peers among themselves, to know that a failure of an interop test is Charkha's: `npm test`.
//
// Both follow each other, both publish 200 messages of mixed types, and both end with the same feeds; over EBT, with
// either side dialling, and over createHistoryStream; then a message more while they are connected, and after a restart.
// And the hostile peer is refused what it ought to be refused.

const assert = require('assert')
const { spawn } = require('child_process')
const crypto = require('crypto')
const fs = require('fs')
const os = require('os')
const path = require('path')
const readline = require('readline')

const children = new Set()
process.on('exit', () => { for (const child of children) child.kill('SIGKILL') })

function start (script, config) {
  const child = spawn(process.execPath, [path.join(__dirname, script), JSON.stringify(config)], { stdio: ['pipe', 'pipe', 'pipe'] })
  children.add(child)
  let log = ''
  child.stderr.on('data', (data) => { log = (log + data).slice(-20000) })
  const waiting = new Map()
  let next = 0
  return new Promise((resolve, reject) => {
    child.on('exit', (code) => {
      children.delete(child)
      const err = new Error(`${script} ended with ${code}:\n${log}`)
      reject(err)
      for (const w of waiting.values()) w.reject(err)
    })
    readline.createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text)
      if (line.ready) {
        const ask = (cmd, ...args) => new Promise((resolve, reject) => {
          waiting.set(++next, { resolve, reject })
          child.stdin.write(JSON.stringify({ req: next, cmd, args }) + '\n')
        })
        return resolve({ id: line.id, address: line.address, ask, log: () => log })
      }
      const w = waiting.get(line.req)
      waiting.delete(line.req)
      line.error ? w.reject(new Error(`${script}: ${line.error}\n${log}`)) : w.resolve(line.result)
    })
  })
}

async function scenario (name, scripts, options, check) {
  const shs = crypto.randomBytes(32).toString('base64')
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'charkha-peers-'))
  const began = Date.now()
  try {
    await check(...scripts.map((script, i) => () => start(script, Object.assign({ dir: path.join(root, String(i)), shs }, options))))
    console.log(`ok   ${name} (${Date.now() - began} ms)`)
  } finally {
    for (const child of children) child.kill('SIGKILL')
    fs.rmSync(root, { recursive: true, force: true })
  }
}

async function same (a, b, id, sequence) {
  await Promise.all([a.ask('waitFeed', id, sequence), b.ask('waitFeed', id, sequence)])
  const [left, right] = await Promise.all([a.ask('feed', id), b.ask('feed', id)])
  assert.strictEqual(left.length, sequence)
  assert.strictEqual(JSON.stringify(left), JSON.stringify(right))
  const keys = left.map((m) => m.key)
  assert.deepStrictEqual(await a.ask('verify', right.map((m) => m.value)), keys)
  assert.deepStrictEqual(await b.ask('verify', left.map((m) => m.value)), keys)
}

async function exchange (openA, openB) {
  let [a, b] = await Promise.all([openA(), openB()])
  await a.ask('follow', b.id)
  await b.ask('follow', a.id)
  const seqA = await a.ask('publishMany', 200, { seed: 1 })
  let seqB = await b.ask('publishMany', 200, { seed: 2 })
  await a.ask('connect', b.address)
  await b.ask('waitPeer', a.id)
  await same(a, b, a.id, seqA)
  await same(a, b, b.id, seqB)

  await b.ask('publish', { type: 'post', text: 'live' })
  const sent = Date.now()
  await a.ask('waitFeed', b.id, ++seqB, 5000)
  const live = Date.now() - sent

  await b.ask('close')
  await a.ask('waitPeer', b.id, false)
  await a.ask('publishMany', 20, { seed: 3 })
  b = await openB()
  await b.ask('publishMany', 20, { seed: 4 })
  await a.ask('connect', b.address)
  await same(a, b, a.id, seqA + 20)
  await same(a, b, b.id, seqB + 20)
  await Promise.all([a.ask('close'), b.ask('close')])
  return live
}

// lies: a hostile peer sends a good feed, then a changed message and two swapped ones: none of those is taken, and the honest ones are
// still taken from elsewhere.
async function lies (openHostile, openGood, openAuthor) {
  const [hostile, good, author] = await Promise.all([openHostile(), openGood(), openAuthor()])
  await author.ask('publishMany', 10, { seed: 5, kinds: ['post'] })
  const values = (await author.ask('feed', author.id)).map((m) => m.value)
  await author.ask('close')
  await good.ask('follow', author.id)
  const bent = JSON.parse(JSON.stringify(values[6]))
  bent.content.text += '!'
  await hostile.ask('offer', author.id, [...values.slice(0, 6), bent, values[8], values[7]])
  await good.ask('connect', hostile.address)
  // ssb-db keeps what comes before the lie, ssb-db2 throws away the batch that it came in.
  await good.ask('waitFeed', author.id, 6, 2000).catch(() => {})
  const have = await good.ask('latest', author.id)
  assert.ok(have === 6 || have === 0, `${have} messages`)
  assert.deepStrictEqual(await good.ask('addRaw', values.slice(have)), values.slice(have).map(() => null))
  assert.strictEqual(await good.ask('latest', author.id), 10)
  await Promise.all([hostile.ask('close'), good.ask('close')])
}

// meet: two clients of a room find each other there, and replicate through it as over any connection.
async function meet (openRoom, openA, openB) {
  const [room, a, b] = await Promise.all([openRoom(), openA(), openB()])
  await room.ask('name', 'Attic', 'dusty')
  await a.ask('follow', b.id)
  await b.ask('follow', a.id)
  const seq = await a.ask('publishMany', 50, { seed: 1, kinds: ['post'] })
  await a.ask('connect', room.address)
  await b.ask('connect', room.address)
  await room.ask('waitHere', a.id)
  await a.ask('waitMet', room.id, b.id)
  await a.ask('connect', `tunnel:${room.id}:${b.id}~shs:${b.id.slice(1, -8)}`)
  await b.ask('waitPeer', a.id)
  await same(a, b, a.id, seq)
  await a.ask('close')
  await b.ask('waitPeer', a.id, false)
  await room.ask('waitHere', a.id, false)
  await Promise.all([b.ask('close'), room.ask('close')])
}

// invited: a pub follows whoever has its code, as often as it says, and then no more.
async function invited (openPub, openA, openB) {
  const [pub, a, b] = await Promise.all([openPub(), openA(), openB()])
  const code = await pub.ask('createInvite', 1)
  await a.ask('acceptInvite', code)
  const { content } = (await pub.ask('feed', pub.id))[0].value
  assert.deepStrictEqual([content.type, content.contact, content.following, content.pub], ['contact', a.id, true, true])
  await assert.rejects(b.ask('acceptInvite', code), /invite not accepted/)
  await Promise.all([pub.ask('close'), a.ask('close'), b.ask('close')])
}

async function main () {
  const both = ['server.js', 'db2.js']
  await scenario('ebt, server dials db2', both, {}, exchange)
  await scenario('ebt, db2 dials server', both.slice().reverse(), {}, exchange)
  await scenario('history streams, server dials db2', both, { ebt: false }, exchange)
  await scenario('history streams, db2 dials server', both.slice().reverse(), { ebt: false }, exchange)
  for (const ebt of [true, false]) {
    for (const script of both) await scenario(`${ebt ? 'ebt' : 'history streams'}, lies told to ${script}`, ['hostile.js', script, 'server.js'], { ebt }, lies)
  }
  await scenario('two clients in a room', ['room.js', 'db2.js', 'db2.js'], { rooms: true }, meet)
  await scenario('invites', ['server.js', 'server.js', 'server.js'], { invites: true }, invited)
  await scenario('ebt with an hmac key, server and server', ['server.js', 'server.js'], { sign: crypto.randomBytes(32).toString('base64') }, exchange)
}

main().then(() => process.exit(0), (err) => {
  console.error(err)
  process.exit(1)
})
