'use strict'
// What compare.js asks. A call is [method, argument ...]; a text "~name" in an argument stands for a value of names, "~%label" for the
// id of the message that was published under a label, "~message label" and "~boxed label" for the message and its text, and
// {"~received": id} for the time at which the message arrived.
//
// Around a call: label names what it publishes (or, of a log, learns when messages arrived); shape compares only which fields there
// are and their types; seqs leaves out places in the log, which are bytes in one server and counts in another.

const crypto = require('crypto')
const ssbKeys = require('ssb-keys')
const V = require('ssb-validate')

const blobId = (content) => `&${crypto.createHash('sha256').update(content).digest('base64')}.sha256`

module.exports = function (keys, held) {
  const boxed = (m) => typeof m.value.content === 'string'
  const find = (what, test) => {
    const found = held.find(test)
    if (!found) throw new Error(`the fixtures hold no ${what}`)
    return found
  }
  const content = (m) => m.value.content
  const opened = (m) => boxed(m) && ssbKeys.unbox(content(m), keys)
  const most = (list) => { // what is there most often
    const counts = new Map()
    for (const x of list) counts.set(x, (counts.get(x) || 0) + 1)
    return [...counts].sort((a, b) => b[1] - a[1])[0][0]
  }
  const posts = held.filter((m) => content(m).type === 'post')
  const others = held.filter((m) => m.value.author !== keys.id)
  const a = others[0].value.author
  const b = others.find((m) => m.value.author !== a).value.author
  const forUs = held.filter((m) => opened(m) && m.value.author !== keys.id)

  // A stranger whose messages are the same in each run: those that arrive while streams are open.
  const visitor = ssbKeys.generate('ed25519', Buffer.alloc(32, 42))
  let state = V.initial()
  const sign = (content, timestamp) => {
    state = V.appendNew(state, null, visitor, content, timestamp)
    return state.queue[state.queue.length - 1].value
  }
  const root = most(posts.map((m) => content(m).root).filter(Boolean))
  const channel = most(posts.map((m) => content(m).channel).filter(Boolean))
  const day = held[held.length - 1].value.timestamp
  const visits = [
    sign({ type: 'post', text: 'I am new here', channel }, day + 1000),
    sign({ type: 'post', text: 'ünïcode \u2028 🧶 <b> & "', root, branch: root, mentions: [{ link: keys.id, name: 'you' }] }, day + 2000),
    sign({ type: 'vote', vote: { link: root, value: 1, expression: 'Like' } }, day + 3000),
    sign(content(forUs[1]), day + 4000), // boxing it anew would not be the same twice
    sign({ type: 'contact', contact: keys.id, following: true }, day + 5000),
    sign({ type: 'odd', 10: 'ten', 2: 'two', numbers: [1.5, 1e21, 1e-7, -0], empty: {}, none: [] }, day + 6000)
  ]
  const next = sign({ type: 'post', text: 'and one more' }, day + 7000)
  const gap = sign({ type: 'post', text: 'not before the one before' }, day + 8000)
  const bent = { ...visits[0], content: { ...visits[0].content, text: 'I was never signed' } }
  const fork = V.create({ id: V.id(visits[0]), sequence: 1, timestamp: 0, queue: [] }, visitor, null, { type: 'post', text: 'another second' }, day + 2500)

  const large = '0123456789'.repeat(3000)
  const names = {
    me: keys.id,
    a,
    b,
    'held blob': blobId('a small blob'),
    'large blob': blobId(large),
    'no blob': blobId('nobody has it'),
    'empty blob': blobId(''),
    visitor: visitor.id,
    nobody: ssbKeys.generate('ed25519', Buffer.alloc(32, 43)).id,
    nothing: '%' + Buffer.alloc(32, 44).toString('base64') + '.sha256',
    first: held[0].key,
    root,
    channel,
    tag: '#' + channel,
    'post of a': find('post of another', (m) => m.value.author === a && content(m).type === 'post').key,
    'vote': find('vote', (m) => content(m).type === 'vote').key,
    'for us': forUs[0].key,
    'boxed for us': content(forUs[0]),
    'message for us': forUs[0],
    'our private': find('private message of ours', (m) => boxed(m) && m.value.author === keys.id).key,
    'for others': find('message for others', (m) => boxed(m) && !opened(m)).key,
    'boxed for others': content(find('message for others', (m) => boxed(m) && !opened(m))),
    'message for others': find('message for others', (m) => boxed(m) && !opened(m)),
    'open message': posts[0],
    blob: most(held.filter((m) => content(m).type === 'about' && content(m).image).map((m) => content(m).image)),
    early: held[100].key,
    late: held[130].key,
    'claimed early': held[100].value.timestamp,
    'claimed late': held[130].value.timestamp,
    next,
    gap,
    bent,
    fork,
    unsigned: { ...next, signature: undefined },
    held: held[0].value
  }
  visits.forEach((value, i) => { names[`visit ${i}`] = value })

  const windows = (at) => [
    { gt: at('early'), lt: at('late') }, { gte: at('early'), lte: at('late') }, { gte: at('early'), lt: at('late'), reverse: true },
    { gt: at('early'), lte: at('late'), limit: 3 }, { gt: at('late'), limit: 3 }, { lt: at('early'), limit: 3, reverse: true },
    { gt: at('late'), lt: at('early') }, { lte: at('early'), limit: 2 }, { gte: at('late'), limit: 2, reverse: true }, { gte: at('early'), lte: at('early') }
  ]
  const ways = [
    { limit: 3 }, { limit: 1 }, { limit: 0 }, { limit: 3, reverse: true }, { limit: 3, keys: false }, { limit: 3, values: false },
    { limit: 2, keys: false, values: false }, { limit: 40, private: true }, { limit: 40, private: true, reverse: true, keys: false },
    { limit: 40, private: false }, { limit: 3, sync: true }, { limit: 3, live: false, old: true }, { limit: 3, reverse: true, values: false, live: false }
  ]
  const received = (name) => ({ '~received': `~${name}` })
  const claimed = (name) => `~claimed ${name}`
  const streams = (method, base, options) => options.map((o) => ({ call: [method, { ...base, ...o }] }))

  const reads = [
    { call: ['createLogStream'], label: 'log' }, // first: it tells when messages arrived
    ...[
      ['whoami'], ['manifest'], ['getFeedState', '~me'], ['getFeedState', '~a'], ['getFeedState', '~nobody'], ['getFeedState', 'nonsense'],
      ['getLatest', '~me'], ['getLatest', '~a'], ['getLatest', '~nobody'], ['getLatest', 'nonsense'], ['getLatest', null],
      ['latestSequence', '~me'], ['latestSequence', '~nobody'], ['latestSequence', 'nonsense'], ['latest'], ['getVectorClock'],

      ['get', '~first'], ['get', '~for us'], ['get', '~for others'], ['get', '~nothing'], ['get', 'nonsense'], ['get', '~me'], ['get', null], ['get', {}],
      ['get', { id: '~first' }], ['get', { key: '~first' }], ['get', { id: '~first', meta: true }], ['get', { id: '~first', private: true }],
      ['get', { id: '~for us', private: true }], ['get', { id: '~for us', private: true, meta: true }], ['get', { id: '~for us', private: false, meta: true }],
      ['get', { id: '~our private', private: true }], ['get', { id: '~for others', private: true }], ['get', { id: '~for others', private: true, meta: true }],
      ['get', { id: '~nothing', meta: true }], ['get', { id: '~nothing', private: true }], ['get', { id: 'nonsense' }], ['get', { id: '~a' }],
      ['get', { id: '~for us', raw: true }], ['get', 1e9], ['get', -5], ['get', { id: '~first', ooo: false }], ['get', { id: '~nothing', ooo: false, timeout: 100 }],

      ['messagesByType', 'about'], ['messagesByType', 'contact'], ['messagesByType', 'nosuch'], ['messagesByType', { type: 'about', keys: false }],
      ['messagesByType', {}], ['messagesByType', ''], ['messagesByType', null], ['messagesByType', { type: 7 }], ['messagesByType', { type: 'post', limit: 'x' }],
      ['createUserStream', {}], ['createUserStream', { id: 'nonsense' }], ['createUserStream', '~me'], ['createUserStream', { id: '~nobody' }],
      ['createUserStream', { id: '~a', limit: 'x' }], ['createUserStream', { id: '~a', reverse: 'x' }],
      ['createHistoryStream', {}], ['createHistoryStream', { id: 'nonsense' }], ['createHistoryStream', { id: '~nobody' }], ['createHistoryStream', '~b'],
      ['createHistoryStream', '~b', 20], ['createHistoryStream', { id: '~a', seq: 'x' }], ['createHistoryStream', { id: '~a', limit: 'x' }],
      ['createLogStream', { limit: 'x' }], ['createLogStream', { reverse: 'x' }], ['createLogStream', { live: 'x' }], ['createLogStream', { keys: 'x' }],
      ['createLogStream', 'nonsense'], ['createLogStream', null], ['createFeedStream', { limit: 'x' }], ['createFeedStream', 7],
      ['createLogStream', { limit: -1, values: false }], ['createLogStream', { limit: 5, reverse: 1 }], ['createFeedStream', { values: false }],
      ['createFeedStream', { values: false, reverse: true }], ['createFeedStream', { keys: false, limit: 900, private: true }],
      ['createUserStream', { id: '~me', private: true }], ['createUserStream', { id: '~b' }], ['createUserStream', { id: '~b', reverse: true, values: false }]
    ].map((call) => ({ call })),

    ...streams('createLogStream', {}, [...ways, ...windows(received)]),
    ...streams('createFeedStream', {}, [...ways, ...windows(claimed)]),
    ...streams('messagesByType', { type: 'post' }, [...ways, ...windows(received)]),
    ...streams('messagesByType', { type: 'vote' }, [{ gt: received('early'), lt: received('late') }, { limit: 2, reverse: true }]),
    ...streams('createUserStream', { id: '~me' }, [...ways, ...windows((name) => name === 'early' ? 10 : 20),
      { gt: 3, limit: 2 }, { gte: 3, limit: 2 }, { lt: 3 }, { lte: 3 }, { lte: 3, reverse: true }, { gt: 813 }, { gt: 1e9 }, { lt: 1 }, { gte: -3, limit: 1 }, { gt: 2.5, lt: 4.5 }]),
    ...streams('createHistoryStream', { id: '~b' }, [
      { limit: 3 }, { limit: 0 }, { seq: 5, limit: 3 }, { sequence: 5, limit: 3 }, { seq: 0, limit: 1 }, { seq: 1, limit: 1 },
      { seq: 1e6 }, { seq: -3, limit: 2 }, { seq: 5, keys: false, limit: 3 }, { seq: 5, keys: false, values: false, limit: 3 },
      { seq: 5, reverse: true, limit: 3 }, { gt: 5, limit: 3 }, { seq: 5, private: true, limit: 3 }, { seq: 5, live: false, limit: 3 }]),
    ...streams('createHistoryStream', { id: '~b' }, [{ limit: -1, values: false }, { seq: 5, values: false, limit: 3 }]).map((c) => ({ ...c, unanswered: true })),
    ...streams('createHistoryStream', { id: '~me' }, [{ limit: 30, private: true }]),
    ...streams('createRawLogStream', {}, [{ limit: 3 }, { limit: 3, reverse: true }, { limit: 0 }, { limit: 2, live: false }]).map((c) => ({ ...c, seqs: true })),
    { call: ['createLogStream', { raw: true, limit: 3 }], seqs: true },

    ...streams('links', {}, [
      { limit: 5 }, { source: '~me', limit: 5 }, { source: '~me', rel: 'contact' }, { source: '~a', dest: 'feed', limit: 40 }, { source: '~a', dest: '@', limit: 40 },
      { source: '~a', dest: '%', limit: 40 }, { source: '~a', dest: 'msg', reverse: true, limit: 40 }, { source: '~a', dest: '&' }, { source: '~a', dest: 'blob' },
      { dest: '~me' }, { dest: '~me', rel: 'contact' }, { dest: '~root' }, { dest: '~root', rel: 'root' }, { dest: '~root', rel: 'vote', reverse: true },
      { dest: '~blob' }, { dest: '~blob', values: true }, { dest: '~root', rel: 'root', values: true, limit: 3 }, { dest: '~root', rel: 'root', keys: false, limit: 3 },
      { dest: '~root', rel: 'root', meta: false, limit: 3 }, { dest: '~root', rel: 'root', meta: false, values: true, limit: 3 },
      { dest: '~root', rel: 'root', meta: false, keys: false, values: true, limit: 3 }, { dest: '~root', rel: 'root', keys: false, values: true, limit: 3 },
      { source: '~me', dest: '~a' }, { source: '~me', dest: '~a', rel: 'contact' }, { source: '~a', dest: '~root' },
      { source: 'feed', dest: '~root', rel: 'branch' }, { source: '@', rel: 'about' }, { rel: 'about' }, { rel: 'nosuch' }, { rel: 'image' }, { dest: '&', rel: 'image' },
      { dest: 'blob', limit: 10 }, { dest: 'feed', rel: 'contact', limit: 20 }, { dest: 'msg', rel: 'vote', limit: 20 }, { dest: '~me', limit: 0 },
      { dest: '~me', private: true, values: true, rel: 'recps', limit: 5 }, { dest: '~me', private: false, values: true, rel: 'recps', limit: 5 }, { dest: 'nonsense' },
      { source: 'nonsense' }, { rel: 7 }, { dest: '~nothing' }, { dest: '~root', live: false }, { dest: '~root', old: true, rel: 'vote', values: false, limit: 5 }]),
    { call: ['links', { dest: '~root', meta: false, keys: false }], unanswered: true }, { call: ['links'] }, { call: ['links', 'nonsense'] },

    ...queries(),
    ...['DTA', 'DTS', 'TDT', 'XYZ'].map((index) => ({ call: ['backlinks.read', { query: [{ $filter: { dest: '~root' } }], index }] })),
    ...[
      { query: [{ $filter: { dest: '~root' } }] }, { query: [{ $filter: { dest: '~root' } }], reverse: true }, { query: [{ $filter: { dest: '~root' } }], limit: 3 },
      { query: [{ $filter: { dest: '~root' } }], limit: 3, reverse: true, index: 'DTA' }, { query: [{ $filter: { dest: '~me' } }], limit: 50 },
      { query: [{ $filter: { dest: '~tag' } }], limit: 20 }, { query: [{ $filter: { dest: '~blob' } }] }, { query: [{ $filter: { dest: '~nothing' } }] },
      { query: [{ $filter: { dest: '~root', value: { content: { type: 'vote' } } } }] }, { query: [{ $filter: { dest: '~root', value: { content: { type: 'post', root: '~root' } } } }] },
      { query: [{ $filter: { dest: '~root', value: { author: '~me' } } }] }, { query: [{ $filter: { dest: '~root' } }, { $map: 'key' }] },
      { query: [{ $filter: { dest: '~root' } }, { $map: { id: 'key', who: ['value', 'author'], when: 'rts' } }] },
      { query: [{ $filter: { dest: '~root' } }, { $reduce: { type: ['value', 'content', 'type'], count: { $count: true } } }] },
      { query: [{ $filter: { dest: '~root', rts: { $gt: '~claimed late' } } }] }, { query: [{ $filter: { dest: '~root', rts: { $lt: '~claimed late' } } }], reverse: true },
      { query: [{ $filter: { dest: '~root' } }], keys: false }, { query: [{ $filter: { dest: '~a', value: { content: { type: 'about' } } } }] },
      { query: [{ $filter: { dest: '~a', value: { content: { type: 'contact' } } } }], reverse: true }, { query: [{ $filter: { value: { content: { type: 'about' } } } }] },
      { query: [{ $filter: { dest: { $prefix: '#' } } }, { $map: { dest: 'dest', key: 'key' } }] },
      { query: [{ $filter: { dest: { $prefix: '#' } } }, { $reduce: { id: 'dest', updatedAt: { $max: 'timestamp' }, count: { $count: true } } }] },
      { query: [] }, {}
    ].map((o) => ({ call: ['backlinks.read', o], unanswered: o.query && !o.query.length })),
    ...[
      { query: [{ $filter: { value: { private: true } } }], limit: 5 }, { query: [], limit: 3 }, { limit: 3 }, { reverse: true, limit: 3 }, {},
      { query: [{ $filter: { value: { author: '~a' } } }] }, { query: [{ $filter: { value: { author: '~me', content: { type: 'post' } } } }], limit: 3, reverse: true },
      { query: [{ $map: ['value', 'content', 'type'] }] }, { query: [{ $filter: { timestamp: { $gt: 0 } } }], reverse: true, limit: 3 }
    ].map((o) => ({ call: ['private.read', o], unanswered: o.query && !o.query.length })),
    ...['~boxed for us', '~message for us', '~boxed for others', '~message for others', '~open message', 'nonsense', 'AAAA.box', null, {}, 7]
      .map((x) => ({ call: ['private.unbox', x] })),
    ...[
      { query: [{ $filter: { rel: ['vote'] } }], limit: 5 }, { query: [{ $filter: { source: '~a', rel: ['contact'] } }] }, { query: [{ $filter: { dest: '~me', rel: ['mentions'] } }] },
      { query: [{ $filter: { dest: '~root' } }], limit: 20 }, { query: [{ $filter: { rel: ['about'] } }] }, { query: [{ $filter: { rel: ['image'] } }] },
      { query: [{ $filter: { rel: ['mentions', { $prefix: '@' }] } }, { $reduce: { id: 'dest', name: ['rel', 1], count: { $count: true } } }], limit: 10 }
    ].map((o) => ({ call: ['links2.read', o] })),

    ...['friends.isFollowing', 'friends.isBlocking'].flatMap((method) => [
      { source: '~me', dest: '~a' }, { source: '~a', dest: '~me' }, { source: '~b', dest: '~a' }, { source: '~me', dest: '~nobody' }, { source: '~nobody', dest: '~me' },
      { source: '~me', dest: '~me' }, { source: '~me', dest: '~a', details: true }, { source: '~me' }, { dest: '~me' }, {}, { source: 'nonsense', dest: '~me' }
    ].map((o) => ({ call: [method, o] }))),
    ...[
      ['friends.hops'], ['friends.hops', {}], ['friends.hops', { start: '~a' }], ['friends.hops', { start: '~nobody' }], ['friends.hops', { max: 1 }], ['friends.hops', { max: 3 }],
      ['friends.hops', { reverse: true }], ['friends.hops', { reverse: true, start: '~a' }], ['friends.hops', { max: 0 }], ['friends.hops', 'nonsense'],
      ['friends.hopStream', { live: false, old: true }], ['friends.hopStream', { live: false }], ['friends.hopStream'], ['friends.graph'],
      ['friends.graphStream', { live: false, old: true }], ['friends.get'], ['friends.get', {}], ['friends.get', { source: '~me' }], ['friends.get', { dest: '~me' }],
      ['friends.get', { source: '~me', dest: '~a' }], ['friends.get', { source: '~nobody' }], ['friends.get', { source: '~nobody', dest: '~me' }], ['friends.get', { dest: '~nobody' }],
      ['friends.createFriendStream', { live: false }], ['friends.createFriendStream', { live: false, meta: true }], ['friends.createFriendStream'],

      ['about.socialValue', { key: 'name', dest: '~a' }], ['about.latestValue', { key: 'name', dest: '~a' }], ['about.socialValues', { key: 'name', dest: '~a' }],
      ['about.latestValues', { keys: ['name', 'description', 'image'], dest: '~a' }], ['about.socialValue', { key: 'image', dest: '~me' }], ['about.socialValue', { key: 'name', dest: '~nobody' }],
      ['about.read', { dest: '~a', live: false }], ['about.read', { dest: '~a', live: false, reverse: true, limit: 1 }],
      ['names.get'], ['names.getImages'], ['names.getImageFor', '~a'], ['names.getSignifier', '~a'], ['names.getSignifier', '~nobody'], ['names.getSignifies', 'dolore'],
      ['search.query', { query: 'oldestmsg', limit: 5 }], ['search.query', { query: 'voluptate', limit: 5 }], ['search.query', { query: 'nosuchword' }],
      ['tangle.branch', '~root'], ['tangle.branch', '~nothing'], ['unread.isRead', '~root'], ['unread.isRead', 'nonsense'], ['unread.markRead', 'nonsense'], ['meme.search', 'dolore'], ['suggest.profile', { text: '', limit: 3 }],

      ['ooo.get', '~first'], ['ooo.get', { id: '~nothing', timeout: 200 }], ['ooo.get', { id: '~first' }],
      ['partialReplication.getFeed', { id: '~b', seq: 3, limit: 4 }], ['partialReplication.getFeed', { id: '~b', keys: false, limit: 2 }], ['partialReplication.getFeed', { id: '~nobody' }],
      ['partialReplication.getFeedReverse', { id: '~b', limit: 3, keys: false }], ['partialReplication.getFeedReverse', { id: '~b', limit: 1e6 }], ['partialReplication.getFeedReverse', { id: '~nobody', limit: 2 }],
      ['partialReplication.getTangle', '~root'], ['partialReplication.getTangle', '~post of a'], ['partialReplication.getTangle', '~for us'], ['partialReplication.getTangle', '~nothing'],
      ['partialReplication.getMessagesOfType', { id: '~a', type: 'post' }], ['partialReplication.getMessagesOfType', { id: '~me', type: 'post', limit: 3 }],
      ['partialReplication.getMessagesOfType', { id: '~b', type: 'vote', seq: 10 }], ['partialReplication.getMessagesOfType', { id: '~b', type: 'nosuch' }],

      ['multiserver.parse', 'net:example.com:8008~shs:zz+n7zuFc4wofIgKeEpXgB+/XQZB43Xj2rrWyD0QM2M='], ['multiserver.parse', 'nonsense'], ['multiserver.address'],
      ['address'], ['address', {}], ['getAddress'], ['getAddress', 'device'], ['getAddress', 'public'],
      ['gossip.peers'], ['gossip.get', '~nobody'], ['replicate.upto', { live: false }], ['ebt.peerStatus', '~nobody'], ['getAtSequence', ['~me', 1]], ['nosuch'], ['invite.accept', 'nonsense']
    ].map((call) => ({ call })),
    { call: ['search.query', { query: 'in', limit: 5 }], unanswered: true },
    { call: ['version'], shape: true }, { call: ['help'], shape: true }, { call: ['status'], shape: true }, { call: ['progress'], shape: true }
  ]

  function queries () {
    const q = []
    const type = (type, more) => ({ $filter: { value: { content: { type }, ...more } } })
    const list = [
      [type('about')], [type('contact', { author: '~me' })], [type('vote', { author: '~a' })], [{ $filter: { value: { author: '~b' } } }],
      [{ $filter: { value: { author: '~b', sequence: { $gt: 5, $lte: 9 } } } }], [{ $filter: { value: { content: { channel: '~channel' } } } }],
      [{ $filter: { value: { content: { root: '~root' } } } }], [{ $filter: { value: { content: { type: 'post', root: '~root' } } } }],
      [{ $filter: { value: { timestamp: { $gte: '~claimed early', $lt: '~claimed late' } } } }], [{ $filter: { timestamp: { $gt: received('early'), $lte: received('late') } } }],
      [{ $filter: { rts: { $gt: '~claimed early', $lte: '~claimed late' } } }], [{ $filter: { value: { content: { type: 'post' }, timestamp: { $gt: '~claimed early', $lt: '~claimed late' } } } }],
      [type('about'), { $map: ['value', 'content'] }], [type('about'), { $map: { who: ['value', 'author'], name: ['value', 'content', 'name'], fixed: true } }],
      [type('about'), { $map: true }], [type('about'), { $map: 'key' }], [type('about'), { $map: ['value', 'content', 'name'] }],
      [type('about'), { $filter: { value: { content: { name: { $is: 'string' } } } } }], [type('about'), { $filter: { value: { content: { name: { $truthy: true } } } } }],
      [type('about'), { $filter: { value: { content: { name: { $prefix: 'a' } } } } }], [type('contact'), { $filter: { value: { content: { following: true } } } }],
      [type('contact'), { $filter: { value: { content: { blocking: { $truthy: true } } } } }], [type('contact'), { $filter: { value: { content: { following: { $ne: true } } } } }],
      [type('contact'), { $filter: { value: { content: { following: { $not: true } } } } }], [type('post'), { $filter: { value: { content: { channel: { $in: ['~channel'] } } } } }],
      [type('contact'), { $reduce: { who: ['value', 'author'], follows: { $count: true } } }], [type('contact'), { $reduce: { $count: true } }],
      [type('vote'), { $reduce: { value: ['value', 'content', 'vote', 'value'], n: { $count: true }, sum: { $sum: ['value', 'content', 'vote', 'value'] } } }],
      [type('about'), { $reduce: { who: ['value', 'author'], first: { $min: ['value', 'timestamp'] }, last: { $max: ['value', 'timestamp'] }, names: { $collect: ['value', 'content', 'name'] } } }],
      [type('vote'), { $map: ['value', 'content', 'vote', 'link'] }, { $reduce: { msg: true, votes: { $count: true } } }, { $sort: [['votes'], ['msg']] }],
      [type('other'), { $map: ['value', 'content', 'number'] }, { $filter: { $gt: 900 } }], [type('other'), { $filter: { value: { content: { number: { $gte: 10, $lt: 40 } } } } }],
      [type('nosuch')], [{ $filter: { key: '~root' } }], [{ $filter: { key: '~for us' } }], [{ $filter: { value: { private: true } } }, { $map: 'key' }],
      [{ $filter: { value: { content: { text: { $prefix: 'OLD' } } } } }], [{ $filter: { value: { content: { type: { $in: ['about', 'contact'] } } } } }, { $reduce: { t: ['value', 'content', 'type'], n: { $count: true } } }],
      [type('about'), { $sort: [['value', 'content', 'name'], ['key']] }], [type('about'), { $sort: [['value', 'timestamp']] }, { $map: 'key' }]
    ]
    for (const query of list) q.push({ query })
    q.push(
      { query: [type('post')], limit: 3 }, { query: [type('post')], limit: 3, reverse: true }, { query: [type('post')], reverse: true, limit: 3, old: true, live: false },
      { query: [type('about')], keys: false }, { query: [type('about')], values: false }, { query: [type('post')], limit: 0 }, { limit: 3 }, { limit: 3, reverse: true },
      { query: [], limit: 3 }, { query: [{ $map: 'key' }], limit: 3 }, { query: [{ $filter: {} }], limit: 2 }, { query: JSON.stringify([type('about')]), limit: 3 },
      { query: 'nonsense' }, { query: [{ $nosuch: 1 }] }, { query: { $filter: { value: { content: { type: 'about' } } } }, limit: 3 }, { query: [type('vote', { author: '~me' })], limit: 5, reverse: true },
      { query: [{ $filter: { value: { author: '~me', content: { type: 'post' } } } }], limit: 5 }, { query: [{ $filter: { value: { timestamp: { $gt: 0 } } } }], limit: 5 },
      { query: [{ $filter: { value: { timestamp: { $gt: 0 } } } }], limit: 5, reverse: true }, { query: [{ $filter: { value: { content: { type: 'post' }, timestamp: { $gt: 0 } } } }], limit: 5, reverse: true },
      { query: [{ $filter: { timestamp: { $gt: 0 } } }], limit: 5, reverse: true }, { query: [{ $filter: { timestamp: { $lt: received('late'), $gt: received('early') } } }], reverse: true, limit: 5 },
      { query: [type('about')], sync: true })
    const unanswered = (o) => Array.isArray(o.query) && (!o.query.length || '$nosuch' in o.query[0])
    return [...q.map((o) => ({ call: ['query.read', o], unanswered: unanswered(o) })), { call: ['query.read', JSON.stringify([type('about')])] }, { call: ['query.read'] },
      ...q.slice(0, 12).map((o) => ({ call: ['query.explain', o] }))]
  }

  const lives = [
    { live: true, limit: -1, values: false, gt: received('late') }, { live: true, old: false }, { live: true, old: false, keys: false }, { live: true, old: false, values: false }, { old: false },
    { live: true, old: false, private: true }, { live: true, old: false, limit: 2 }, { live: true, reverse: true, limit: 3 }, { live: true, limit: 3 }, { live: true, old: false, sync: true },
    { live: true, old: false, sync: false }, { live: true, old: false, reverse: true }, { live: true, limit: 0 }
  ]
  const recent = (at) => [{ gt: at, live: true }, { gt: at, live: true, sync: false }, { gt: at, live: true, sync: true }, { gt: at, live: true, reverse: true }, { gt: at, live: true, values: false }]
  const end = held[held.length - 3]
  names['near the end'] = end.key
  names['claimed near the end'] = end.value.timestamp
  const mine = held.filter((m) => m.value.author === keys.id).length
  const theirs = held.filter((m) => m.value.author === b).length
  const live = [
    ...streams('createLogStream', {}, [...lives, ...recent(received('near the end'))]),
    ...streams('createFeedStream', {}, [...lives.slice(1), ...recent(claimed('near the end'))]),
    ...streams('messagesByType', { type: 'post' }, [...lives.slice(1), ...recent(received('near the end'))]),
    ...streams('createUserStream', { id: '~visitor' }, [{ live: true }, { live: true, old: false }, { old: false }, { live: true, sync: false }, { live: true, keys: false }, { live: true, limit: 2 }, { live: true, gt: 2 }, { live: true, gte: 2, lt: 4 }]),
    ...streams('createUserStream', { id: '~me' }, [{ live: true, gt: mine - 2 }, { live: true, gt: mine - 2, reverse: true }, { live: true, old: false }, { live: true, limit: 2 }]),
    ...streams('createHistoryStream', { id: '~visitor' }, [{ live: true }, { live: true, old: false }, { live: true, keys: false, seq: 2 }, { live: true, limit: 2 }, { live: true, sync: true }, { live: true, sync: false }]),
    ...streams('createHistoryStream', { id: '~b' }, [{ live: true, seq: theirs - 1 }, { live: true, seq: theirs + 1 }]),
    ...streams('links', { live: true }, [{ dest: '~root', old: false }, { dest: '~root', rel: 'vote', limit: 2 }, { dest: '~me', rel: 'contact' }, { source: '~visitor' }, { source: '~visitor', sync: false }, { old: false, source: '~visitor', values: true }]),
    ...[
      { query: [{ $filter: { value: { author: '~visitor' } } }], live: true }, { query: [{ $filter: { value: { author: '~visitor' } } }], live: true, sync: true },
      { query: [{ $filter: { value: { author: '~visitor' } } }], live: true, old: false }, { query: [{ $filter: { value: { content: { type: 'post' } } } }], live: true, old: false, sync: true },
      { query: [{ $filter: { value: { content: { type: 'contact' } } } }, { $map: ['value', 'content'] }], live: true, old: false },
      { query: [{ $filter: { value: { author: '~visitor' } } }], old: false }, { query: [{ $filter: { value: { author: '~visitor' } } }], live: true, limit: 2 },
      { query: [{ $filter: { timestamp: { $gt: received('near the end') } } }], live: true }
    ].map((o) => ({ call: ['query.read', o] })),
    ...[
      { query: [{ $filter: { dest: '~me', value: { content: { type: 'contact' } } } }], live: true }, { query: [{ $filter: { dest: '~root' } }], live: true, old: false },
      { query: [{ $filter: { dest: '~tag' } }], live: true, old: false }, { query: [{ $filter: { dest: '~visitor' } }], live: true }, { query: [{ $filter: { dest: '~visitor' } }], live: true, sync: false },
      { query: [{ $filter: { dest: { $prefix: '#' } } }], live: true, old: false }
    ].map((o) => ({ call: ['backlinks.read', o] })),
    { call: ['private.read', { live: true, old: false }] }, { call: ['private.read', { query: [{ $filter: { value: { author: '~visitor' } } }], live: true }] },
    { call: ['createSequenceStream'], shape: true }, { call: ['friends.stream'] }, { call: ['friends.hopStream', { live: true, old: false }] }, { call: ['friends.hopStream', { live: true, old: true }] },
    { call: ['friends.createFriendStream', { live: true, meta: true }] },
    { call: ['blobs.changes'] }, { call: ['blobs.ls', { live: true }] }, { call: ['blobs.ls', { old: false }] }, { call: ['blobs.ls', { live: true, sync: false }] },
    { call: ['blobs.ls', { old: false, meta: true }], shape: true }, { call: ['blobs.ls', { live: true, long: true }], shape: true }
  ]

  const writes = [
    { call: ['blobs.add', 'a small blob'] }, { call: ['blobs.add', large, '~large blob'] }, { call: ['blobs.add', 'other bytes', '~held blob'] },
    ...visits.map((_, i) => ({ call: ['add', `~visit ${i}`] })),
    ...['gap', 'bent', 'fork', 'held', 'unsigned', 'visit 3'].map((name) => ({ call: ['add', `~${name}`] })),
    ...[null, {}, 7, 'nonsense', { key: '~nothing', value: '~next' }].map((x) => ({ call: ['add', x] })),
    { call: ['publish', { type: 'post', text: 'hello', mentions: [{ link: '~a' }] }], label: 'hello' },
    { call: ['publish', { type: 'post', text: 'an answer', root: '~%hello', branch: '~%hello' }], label: 'answer' },
    { call: ['publish', { type: 'odd', 10: 'ten', 2: 'two', z: 1, a: { y: null, x: [] }, text: '\u0000\u2028\ud83e\uddf5\u007f<&"', n: [0, -0, 1.5, 1e21, 1e-7, 5e-324] }], label: 'odd' },
    { call: ['publish', { type: 'post', text: 'for you', recps: ['~me', '~a'] }], label: 'for a' },
    { call: ['publish', { type: 'contact', contact: '~visitor', following: true }], label: 'follow' },
    { call: ['private.publish', { type: 'post', text: 'quiet', recps: ['~a', '~me'] }, ['~a', '~me']], label: 'quiet' },
    { call: ['private.publish', { type: 'post', text: 'not for me' }, ['~a']], label: 'given away' },
    { call: ['publish', '~boxed quiet'], label: 'quiet again' },
    ...[
      ['publish'], ['publish', null], ['publish', {}], ['publish', { text: 'no type' }], ['publish', { type: '' }], ['publish', { type: 'ab' }], ['publish', { type: 7 }],
      ['publish', { type: 'x'.repeat(53) }], ['publish', 'nonsense'], ['publish', ''], ['publish', 7], ['publish', []], ['publish', true], ['publish', { type: 'post', text: 'x'.repeat(9000) }],
      ['publish', { type: 'post', text: 'x', recps: [] }], ['publish', { type: 'post', text: 'x', recps: ['nonsense'] }], ['publish', { type: 'post', text: 'x', recps: '~a' }],
      ['publish', { type: 'post', text: 'x', recps: ['~me', '~a', '~b', '~nobody', '~visitor', '~me', '~me', '~me', '~me', '~me'] }], ['publish', { type: 'post', text: 'x', recps: null }],
      ['private.publish', { type: 'post', text: 'x' }, ['nonsense']], ['private.publish', { type: 'post', text: 'x' }],
      ['friends.follow', 'nonsense'], ['friends.block', 'nonsense'], ['friends.follow'], ['friends.follow', { x: 1 }]
    ].map((call) => ({ call, label: `written by ${JSON.stringify(call).slice(0, 60)}` })),
    { call: ['unread.markRead', '~early'] },
    { call: ['friends.follow', '~nobody', {}], label: 'follow nobody' }, { call: ['friends.follow', '~nobody', { state: false }], label: 'unfollow nobody' },
    { call: ['friends.block', '~nobody', { reason: 'spam' }], label: 'block nobody' }, { call: ['friends.block', '~nobody', { state: false }], label: 'unblock nobody' }
  ]

  const after = [
    ...[
      ['get', '~%hello'], ['get', { id: '~%odd', meta: true }], ['get', '~%for a'], ['getLatest', '~visitor'], ['getVectorClock'], ['latestSequence', '~visitor'], ['getFeedState', '~me'],
      ['private.unbox', '~boxed for a'], ['private.unbox', '~boxed given away'], ['private.unbox', '~message given away'],
      ['createUserStream', { id: '~me', gt: mine }], ['createLogStream', { gt: received('near the end') }], ['createFeedStream', { gt: '~claimed near the end' }],
      ['links', { source: '~visitor' }], ['links', { dest: '~visitor', values: true }], ['backlinks.read', { query: [{ $filter: { dest: '~%hello' } }] }], ['query.read', { query: [{ $filter: { value: { author: '~visitor' } } }] }],
      ['friends.isFollowing', { source: '~visitor', dest: '~me' }], ['friends.isFollowing', { source: '~me', dest: '~visitor' }], ['friends.isBlocking', { source: '~me', dest: '~nobody' }],
      ['friends.hops'], ['friends.get', { source: '~me' }], ['friends.get', { dest: '~nobody' }], ['tangle.branch', '~%hello'], ['unread.isRead', '~early'],
      ['messagesByType', 'odd']
    ].map((call) => ({ call })),
    { call: ['get', { id: '~%for a', private: true, meta: true }], label: 'for a' },
    { call: ['private.read', { query: [{ $filter: { value: { author: '~me' } } }], reverse: true, limit: 4 }] },
    ...['~held blob', '~large blob', '~no blob', '~empty blob', ['~held blob', '~no blob', '~large blob'], [], { id: '~held blob' }, 'nonsense', ['~held blob', 'nonsense'], '~root', null, 7]
      .flatMap((x) => [{ call: ['blobs.has', x], unanswered: x && x.length === 0 }, { call: ['blobs.size', x] }]),
    ...['~held blob', '~large blob', '~no blob', '~empty blob', 'nonsense', { id: '~held blob' }, { key: '~held blob', max: 5e6 }, { hash: '~held blob', size: 12 }, { key: '~held blob', size: 11 }, { key: '~held blob', max: 11 }, { id: '~no blob' }, {}]
      .map((x) => ({ call: ['blobs.get', x] })),
    ...[{ id: '~held blob', start: 0, end: 5 }, { key: '~held blob', start: 2, end: 100 }, { hash: '~large blob', start: 20000, end: 20010 }, { id: '~held blob', start: 3 }, { id: '~held blob' },
      { id: '~held blob', start: 0, end: 5, size: 11 }, { id: '~held blob', start: 0, end: 5, max: 11 }, { id: '~no blob', start: 0, end: 5 }].map((x) => ({ call: ['blobs.getSlice', x] })),
    ...[[], [{}], [{ old: true }]].map((args) => ({ call: ['blobs.ls', ...args] })), ...[{ meta: true }, { long: true }, { size: true }].map((o) => ({ call: ['blobs.ls', o], shape: true })),
    { call: ['blobs.want', '~held blob'] }, { call: ['blobs.want', { id: '~held blob' }] }, { call: ['blobs.want', 'nonsense'] },
    { call: ['blobs.push', '~held blob'] }, { call: ['blobs.push', 'nonsense'] }, { call: ['blobs.rm', '~large blob'] }, { call: ['blobs.has', '~large blob'] }, { call: ['blobs.rm', '~no blob'] },
    { call: ['blobs.rm', 'nonsense'] }, { call: ['blobs.ls', { meta: false }] }, { call: ['blobs.meta', '~held blob'], shape: true }
  ]
  // Here the feeds part: one server publishes what the other refuses.
  const last = [
    { call: ['publish', { type: 'post', text: 'for both', recps: [{ link: '~me', name: 'me' }, { link: '~b' }] }], label: 'for both' },
    { call: ['private.publish', { type: 'post', text: 'for nobody' }, []], label: 'for nobody' },
    { call: ['friends.follow', '~nobody'], label: 'follow nobody again' },
    { call: ['friends.block', '~nobody', { state: true, reason: 7 }], label: 'block nobody again' }
  ]
  return { names, reads, live, writes, after, last }
}
