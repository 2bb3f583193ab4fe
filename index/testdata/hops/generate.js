// Writes graphs.json: random follow graphs and the distances that npm layered-graph (which ssb-friends uses) computes in them.
// Run where its packages are installed: NODE_PATH=interop/js/node_modules node index/testdata/hops/generate.js
const fs = require('fs')
const path = require('path')
const LayeredGraph = require('layered-graph')

// A small generator with a fixed seed, so that the file can be made again.
let state = 20240607
function below(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 4294967296) * n)
}

const cases = []
for (let n = 0; n < 240; n++) {
  const people = 2 + below(n % 3 === 0 ? 6 : 24)
  const max = below(5)
  const negative = below(6) // of ten edges, how many are no follow
  const graph = {}
  const edges = below(people * 4) + 1
  for (let i = 0; i < edges; i++) {
    const from = 'p' + below(people)
    const value = below(10) < negative ? (below(2) ? -1 : -2) : 1
    graph[from] = graph[from] || {}
    graph[from]['p' + below(people)] = value
  }
  const layered = LayeredGraph({ start: 'p0', max })
  layered.createLayer('all')(graph)
  cases.push({ max, graph, hops: layered.getHops() })
}
fs.writeFileSync(path.join(__dirname, 'graphs.json'), '[\n' + cases.map((c) => JSON.stringify(c)).join(',\n') + '\n]\n')
