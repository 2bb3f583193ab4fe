// Package interop holds the tests that talk to other people's SSB programs: npm ssb-server 16, a secret-stack with ssb-db2
// 8, ssb-ebt 9 and ssb-room-client 2, either with ssb-local or ssb-lan, an ssb-room 1, and a peer that lies. Nothing but tests
// imports it; they have the build tag interop and need node, and the packages that `make interop-peers` installs as
// js/package-lock.json pins them. README.md says what was tried and what works.
//
// Start runs one such peer as a process: a script of js/ that makes the peer and takes commands as JSON lines on its
// standard input (js/lib/driver.js says which). Peers share a network key of the test's own, listen at a free port of
// 127.0.0.1, look for nobody and dial only when told to, unless the test gives them a network of its own. A peer ends with
// the test, with its process group; it also ends by itself when its standard input does, so that none outlives a test that was
// killed.
//
// TestAnswersAsSSBServer compares the answers that local programs get with those of ssb-server: differences.json has where they differ, and why.
//
// The peers are tested among themselves first, by `npm test` in js/ and here: what fails against Charkha and not there
// is Charkha's fault. README.md has what to know of them.
package interop
