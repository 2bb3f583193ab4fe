package invite

import "strings"

// AlreadyFollowing are the words with which a pub says that it follows the feed already (npm ssb-invite). That is no failure:
// what the invite is for is so, and the pub has not counted it as used.
const AlreadyFollowing = "already following"

// known are the words of servers that refuse an invite, in lower case, and what they mean. The first that is found counts.
var known = []struct{ words, means string }{
	// npm ssb-invite 2 and 3, what invite.use answers
	{AlreadyFollowing, "the pub follows you already, so the invite was not needed and was not used up"},
	{"invite has expired", "this invite was used up: ask for a new one"},
	{"feed to follow is missing", "the pub did not understand which feed it is to follow"},
	// the same for a seed that it does not know, or that was used up: its key may do nothing there
	{"method:invite,use is not in list of allowed methods", "the pub does not know this invite, or it was used up: ask for a new one"},
	{"key not found in database", "the pub does not know this invite: ask for a new one"},
	// a server without the plugin; JS, then go-ssb
	{"no async:invite", "that server gives no invites"},
	{"no such command: invite", "that server gives no invites"},
	// invite.create
	{"no public ip address", "the server does not know an address at which others reach it, so nobody could use an invite of it"},
	{"no address available for creating an invite", "the server does not know an address at which others reach it, so nobody could use an invite of it"},
	{"ssb-room does not create real invites", "an open room needs no invites: its address is enough"},
	// ssb-friends, and package shs when a server hangs up on the invite's key
	{"client is blocked", "the server blocks whoever uses this invite"},
	{"the remote hung up when we said who we are", "the server turned this invite away: it was used up, or is of another server"},
	{"refused by the remote", "the server turned this invite away: it was used up, or is of another server"},
	// go-ssb-room, over HTTP
	{"banned", "the room does not let you in: your id is banned there"},
	{"denied", "the room does not let you in"},
	{"already a member", "you are a member of the room already"},
	{"not found", "the room does not know this invite, or it was used up: ask for a new one"},
	{"already used", "this invite was used up: ask for a new one"},
	// npm ssb-invite, around what is above or what it does not know
	{"failed to parse invite", "the server cannot read this invite"},
	{"could not connect to server", "the server of this invite cannot be reached"},
	{"invite not accepted", "the pub did not accept this invite"},
}

// Explain says in plain words what a server means that refuses an invite, given its error's text. What is not known is
// returned as it is.
func Explain(text string) string {
	lower := strings.ToLower(text)
	for _, k := range known {
		if strings.Contains(lower, k.words) {
			return k.means
		}
	}
	return text
}
