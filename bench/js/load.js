'use strict'
// How a rival takes in a file of JSON lines: with addTransaction of ssb-db2, which validates them, of one feed at a time, as many as fit
// into a block of its log, the most that it takes. It returns the seconds from the first call until the log was written; reading
// the file is not counted.

const fs = require('fs')
const readline = require('readline')
const { call } = require('../../interop/js/lib/driver')

const BLOCK = 60e3 // bytes of JSON, which is a little longer than what the log keeps, in blocks of 64 KiB

module.exports = (sbot) => async (file) => {
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
  await new Promise((resolve) => sbot.db.getLog().onDrain(resolve))
  return Number(process.hrtime.bigint() - began) / 1e9
}
