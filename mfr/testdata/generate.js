// Makes answers.json: queries over values, and what npm map-filter-reduce answers. In an empty folder, with node 20:
//
//   npm install map-filter-reduce@3.2.2 pull-stream@3.7.0 && node generate.js > answers.json
//
// The packages are MIT-licensed; the file holds only what they answered. "error" stands where they throw.
const log = console.log
console.log = () => {} // $sort prints what it compares
const mfr = require('map-filter-reduce')
const pull = require('pull-stream')

// zoo is one value of each kind that JS compares and converts in its own way; each stands as v in an object.
const zoo = [
  null, true, false, 0, -0, 1, -1, 5, 5.5, 1e21, 1e-7, 123456789012345680000, 1537465741596.001,
  '', ' ', '0', '5', ' 5 ', '-1', '1e1', '0x10', '0b1', '.5', '5.', '+5', '1_0', 'Infinity', '-Infinity', 'NaN', 'true', 'null', 'undefined', 'object',
  'a', 'ab', 'abc', 'b', 'A', 'é', 'e\u0301', '\uffff', '\ue000', '😀', '\ud83d', '\udd00', '\u0000', '"\\\n', '[object Object]', '1,2',
  [], [0], [5], ['5'], ['a'], ['a', 'b'], ['a', 'b', 'c'], [1, 2], [[1, 2]], [null], [[]], [{}], [null, 1], ['a', ['b', { c: 1 }]], [1, null, [2, [3]]],
  {}, { a: 1 }, { a: null }, { a: { b: { c: 'deep' } } }, { length: 2, 1: 'x' }, { 0: 'a', 1: 'b' }, { 'a"b': 1, 'é': 2 }, { $gt: 1 }
].map(v => ({ v })).concat([{}, { w: 1 }])

const literals = [null, true, false, 0, 1, -1, 5, 5.5, '', '5', 'a', 'ab', 'é', '😀', '\ud83d', '"\\\n', [], [5], ['a'], ['a', 'b'], [1, 2], {}, { a: 1 }]
const rules = []
for (const op of ['$lt', '$gt', '$lte', '$gte', '$eq', '$ne']) for (const l of literals) rules.push({ [op]: l })
for (const l of literals) rules.push(l)
for (const l of [true, false, 0, null]) rules.push({ $not: l }, { $truthy: l }, { $type: l }, { $int: l })
for (const t of ['string', 'number', 'boolean', 'object', 'undefined', 'array', 'null', 5, null]) rules.push({ $is: t })
for (const p of ['', 'a', 'ab', 'é', '😀', '5', 5, true, [], ['a'], ['a', 'b'], [1], [[]]]) rules.push({ $prefix: p })
for (const l of [[], ['a', 5, null, true], [[], {}], 'xabc', '']) rules.push({ $in: l })
for (const m of [2, 5, 0, '2', null]) rules.push({ $mod: m })
for (const g of ['a', 'length', ['a', 'b'], ['a', 'b', 'c'], [0], [], true, 5, null]) rules.push({ $get: g })
rules.push({ $gt: 0, $lt: 6 }, { $gte: 'a', $lt: 'b' }, { $prefix: 'a', $ne: 'ab' }, { $gt: 0, unknown: 1 }, { $gt: 0, $unknown: 1 }, { a: { b: { c: 'deep' } } }, { a: { $is: 'number' } },
  { a: null }, { a: { $truthy: true } }, ['a', { $is: 'string' }], [{ $gt: 4 }], { length: 2 }, { length: { $gt: 1 } }, { 0: 'a' }, { 1: 'x', length: 2 }, { $filter: { a: 1 } },
  { $map: { a: true } }, { $filter: 'a' }, { $map: 'a' }, { $map: ['a', 'b'] }, { a: {} }, { a: { $not: true } }, { 'a"b': 1 }, { 'é': 2 }, { $unknown: 1 }, { x: { $unknown: 1 } }, { $count: true })

const maps = [
  'v', ['v'], ['v', 'a'], ['v', 'a', 'b', 'c'], ['v', 'length'], ['v', 0], ['v', -1], ['v', -2], ['v', '0'], ['v', 1], [], true, false, null, 1.5, {}, { v: true }, { x: 'v' }, { x: ['v', 'a'] },
  { x: { v: true } }, { x: { y: { z: 'v' } } }, { v: true, w: true, x: true }, { b: 'v', a: 'v', 1: 'v', 0: 'v' }, { x: true }, { x: [] }, { x: null }, { x: {} },
  { t: ['v', { $type: true }] }, { m: ['v', { $mod: 2 }] }, { i: ['v', { $in: ['a', 5] }] }, { i: ['v', { $in: 'abc' }] }, { g: ['v', { $gt: 1 }, { $not: true }] }, { e: ['v', { $gt: 0, $type: true }] },
  ['v', { $filter: { a: 1 } }], ['v', { $map: { a: true, length: true } }], ['v', { $filter: 'a' }], { f: { $filter: { v: 'a' } } }, { $get: 'v' }, { $get: ['v', 'a'] }, { $unknown: 1 }, { a: 1, $unknown: 1 },
  { $filter: { v: 5 } }, { '': 'v', 'é"': 'v' }, { x: { $map: 'v' } }, 0, -1, { x: 0 }, [[['v']]], ['v', { $type: 1 }, 'length']
]

const people = [
  { name: 'ann', country: 'NZ', age: 30, tags: ['a'], home: { kind: 'boat', rooms: 1 } },
  { name: 'bob', country: 'US', age: '7', tags: ['a', 'b'], home: { kind: 'house', rooms: 3 } },
  { name: 'cem', country: 'NZ', age: null, tags: ['a'], home: { kind: 'house' } },
  { name: 'dot', age: 'old', tags: [], home: null },
  { name: 'eve', country: 5, age: -2.5, tags: null },
  { name: 'fay', country: 'US', age: true, home: { kind: 'boat', rooms: 0 } },
  { name: 'gus', country: null, age: 1e300, tags: ['b'], home: { kind: 'boat', rooms: '' } },
  { name: 'hal', country: true, age: [4] },
  { name: 'ivy', country: 'é', age: {}, tags: ['a', null] },
  { name: 'jan', country: '😀', age: 0, tags: ['a', 1] },
  { name: 'kim', country: '\uffff', age: 30 }
]
const numbers = [3, 1, 2, 5, 4]
const reduces = [
  { $count: true }, { $sum: 'age' }, { $min: 'age' }, { $max: 'age' }, { $product: 'age' }, { $collect: 'name' }, { $collect: 'age' }, { $collect: true }, { $collect: 'tags' },
  { n: { $count: true } }, { n: { $count: true }, s: { $sum: 'age' }, lo: { $min: 'age' }, hi: { $max: 'age' }, p: { $product: 'age' }, all: { $collect: 'age' } },
  { country: 'country', n: { $count: true } }, { n: { $count: true }, country: 'country' }, { country: 'country', lo: { $min: 'age' }, hi: { $max: 'age' }, sum: { $sum: 'age' } },
  { country: 'country', kind: ['home', 'kind'], n: { $count: true }, who: { $collect: 'name' } }, { where: { country: 'country', kind: ['home', 'kind'] }, n: { $count: true } },
  { country: 'country', stats: { n: { $count: true }, s: { $sum: ['home', 'rooms'] } } }, { country: 'country', people: { $reduce: { name: 'name', n: { $count: true } } } },
  { age: 'age', n: { $count: true } }, { rooms: ['home', 'rooms'], n: { $count: true } }, { tags: 'tags', n: { $count: true } }, { tags: 'tags', name: 'name', n: { $count: true } },
  { name: 'name', home: 'home' }, { home: 'home', n: { $count: true } }, { initial: ['name', 0], n: { $count: true } }, { name: 'name', tags: 'tags' }, { n: { $count: 'age' } },
  { big: ['age', { $gt: 5 }], n: { $count: true } }, { type: ['age', { $type: true }], n: { $count: true }, max: { $max: 'age' } }, { last: ['tags', -1], n: { $count: true } },
  { s: { $sum: ['tags', 'length'] } }, { $sum: ['home', 'rooms'] }, { $count: true, $sum: 'age' }, { a: { $max: 'none' } }, { $max: 'none' }, { $collect: 'none' }, {},
  { $unknown: 1 }, { a: { $unknown: 1 } }, { a: null }, { 1: 'name', 0: 'country', n: { $count: true } }, { x: { y: { z: 'country' } }, n: { $count: true } }, { $sum: null }
]
const sorts = [
  ['name'], [['name']], [['age']], ['age'], [['country']], ['country'], [['country'], ['name']], [['country'], { $reverse: ['name'] }], [{ $reverse: ['country'] }, ['name']], [{ $reverse: 'name' }],
  [['tags']], ['tags'], [['home', 'kind'], ['name']], [['home', 'rooms']], [['home']], ['home'], [['home', 'kind', 'length']], [['tags', 'length'], ['name']], [['tags', '0'], ['name']], [['tags', 0], ['name']], [['none']], []
]
const chains = [
  [], [null, false, 0, ''], [{ $filter: { country: 'NZ' } }, { $map: 'name' }], [{ $map: { n: 'name', c: 'country' } }, { $filter: { c: { $is: 'string' } } }, { $sort: [['c'], ['n']] }],
  [{ $filter: { age: { $gt: 0 } } }, { $reduce: { country: 'country', n: { $count: true } } }, { $sort: [['n']] }, { $map: { n: true } }],
  [{ $reduce: { country: 'country', max: { $max: 'age' } } }, { $filter: { max: { $gt: 1 } } }], [{ $reduce: { country: 'country', max: { $max: 'age' } } }, { $map: ['max', { $type: true }] }],
  [{ $reduce: { all: { $collect: 'country' } } }, { $map: { n: 'length', first: 0, last: -1, third: [3, { $type: true }] } }], [{ $reduce: { $collect: 'country' } }, { $filter: { $is: 'string' } }],
  [{ $map: 'age' }, { $filter: { $gt: 0 } }], [{ $map: 'age' }, { $reduce: { $sum: true } }], [{ $map: 'age' }, { $reduce: { $max: true } }], [{ $map: ['age', { $mod: 4 }] }], [{ $map: ['age', { $mod: 4 }] }, { $reduce: { $collect: true } }],
  [{ $map: { m: ['age', { $mod: 4 }], name: true } }, { $sort: [['m', 'x'], ['name']] }], [{ $filter: { country: 'none' } }, { $reduce: { $count: true } }], [{ $filter: { country: 'none' } }, { $reduce: { n: { $count: true } } }],
  [{ $filter: { country: 'none' } }, { $sort: [['name']] }], [{ $filter: {} }], [{ $filter: { name: {} } }], [{ $filter: null }], [{ $filter: 'x' }], [{ $filter: true }], [{ $unknown: 1 }], [{}], ['x'], [5], [true], [[]],
  [{ $filter: { country: 'NZ' }, $map: 'name' }], [{ $filter: { country: 'NZ' }, $is: 'object' }], [{ x: 1, $filter: { country: 'NZ' } }], [{ 1: 1, $filter: {} }], [{ $map: 'name', $filter: { country: 'NZ' } }],
  [{ $map: 'home' }, { $reduce: { kind: 'kind', rooms: { $sum: 'rooms' }, n: { $count: true } } }], [{ $map: 'tags' }, { $filter: { $prefix: ['a'] } }], [{ $map: 'tags' }, { $filter: ['a'] }],
  [{ $reduce: { country: 'country', who: { $collect: 'name' } } }, { $map: { country: true, who: ['who', -1] } }], [{ $reduce: { x: { $sum: 'name' }, y: { $product: 'name' } } }]
]

function answer (query, values) {
  let out, err
  try {
    pull(pull.values(JSON.parse(JSON.stringify(values))), mfr(JSON.parse(JSON.stringify(query))), pull.collect((e, all) => { err = e; out = all }))
  } catch (e) { err = e }
  if (err || !out) return 'error'
  return out.map(v => {
    if (typeof v === 'function') return null
    const s = JSON.stringify(v)
    return s === undefined ? null : JSON.parse(s)
  })
}

const list = (tests, values) => tests.map(query => ({ query, values, answer: answer(query, values === 'zoo' ? zoo : values === 'people' ? people : numbers) }))
const cases = [
  ...rules.map(rule => {
    // per value: true passes, false does not, null throws
    const passes = zoo.map(v => { const got = answer([{ $filter: { v: rule } }], [v]); return got === 'error' ? null : got.length === 1 })
    return { query: [{ $filter: { v: rule } }], values: 'zoo', passes: passes.map(p => p === null ? 'E' : p ? '1' : '0').join('') }
  }),
  ...maps.map(m => ({ query: [{ $map: m }], values: 'zoo', each: zoo.map(v => answer([{ $map: m }], [v])) })),
  ...list(reduces.map(r => [{ $reduce: r }]), 'people'),
  ...list(reduces.slice(0, 12).map(r => [{ $filter: { name: 'cem' } }, { $reduce: r }]), 'people'),
  ...list([{ $count: true }, { $sum: true }, { $min: true }, { $max: true }, { $collect: true }, { $product: true }, true, 'x'].map(r => [{ $reduce: r }]), 'numbers'),
  ...list(sorts.map(s => [{ $sort: s }]), 'people'),
  ...list(chains, 'people')
]
process.stdout.write('{"zoo":' + JSON.stringify(zoo) + ',\n"people":' + JSON.stringify(people) + ',\n"numbers":' + JSON.stringify(numbers) + ',\n"cases":[\n' +
  cases.map(c => JSON.stringify(c)).join(',\n') + '\n]}\n')
