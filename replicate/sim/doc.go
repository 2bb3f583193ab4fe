// Command sim runs the brains of Charkha, the EBT one (package ebt) and the scheduler (package sched), in networks of up to ten
// thousand nodes in virtual time, and writes what it measured: RESULTS.md and spread.svg, beside its source unless -out says
// otherwise. README.md says what is modelled and what is not.
//
// What holds: one goroutine, one queue of events, no clock; all chance comes from one seed, which is printed, and the same seed
// gives the same run. The brains are the real ones, and what package replicate does around them is done here in the same
// way, with a log that is only a number for each feed.
package main
