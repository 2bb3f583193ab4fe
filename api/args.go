package api

import (
	"slices"

	"charkha/muxrpc"
)

// need is an argument, or an option, that must be there; may is one that need not.
func need(name, typ, doc string) muxrpc.Arg { return muxrpc.Arg{Name: name, Type: typ, Doc: doc} }
func may(name, typ, doc string) muxrpc.Arg {
	return muxrpc.Arg{Name: name, Type: typ, Doc: doc, Optional: true}
}

// args is the arguments of a method in order.
func args(all ...muxrpc.Arg) []muxrpc.Arg { return all }

// either makes options of an object that may stand in an argument's place; its type says so.
func either(arg muxrpc.Arg, options ...muxrpc.Arg) muxrpc.Arg {
	arg.Options = options
	return arg
}

// opts is the argument of a method that takes an object of options. It may be missing if all of them may.
func opts(options ...muxrpc.Arg) []muxrpc.Arg {
	needed := slices.ContainsFunc(options, func(o muxrpc.Arg) bool { return !o.Optional })
	return args(muxrpc.Arg{Name: "opts", Type: "object", Doc: "options", Optional: !needed, Options: options})
}

// What stands in the arguments of many methods.
var (
	feedArg    = need("feed", "FeedId", "the feed")
	liveArg    = may("live", "boolean", "go on with what comes; true unless it is false")
	oldArg     = may("old", "boolean", "begin with what there is")
	addressArg = need("address", "string", "a multiserver address, or host:port:key")
	peerArg    = either(need("peer", "string|object", "an address or a feed id, or an object"),
		may("key", "FeedId", "its feed"), may("address", "string", "its multiserver address"), may("host", "string", "its host"), may("port", "number", "its port"))
)

// streamArgs are the standard options of a source of messages (streamOptions), whose ranges are over what order says, and more.
func streamArgs(order string, more ...muxrpc.Arg) []muxrpc.Arg {
	return opts(standard(order, more...)...)
}

func standard(order string, more ...muxrpc.Arg) []muxrpc.Arg {
	return append(more,
		may("gt", "number", "only from behind this "+order), may("gte", "number", "only from this "+order+" on"),
		may("lt", "number", "only before this "+order), may("lte", "number", "only up to this "+order),
		may("reverse", "boolean|number", "the last ones first"),
		may("limit", "number", "most messages of those that are there; -1 for all"),
		may("live", "boolean|number", "go on with what comes"),
		may("old", "boolean", "false: only what comes"),
		may("keys", "boolean", "false: no keys, the bare value"),
		may("values", "boolean", "false: no values, the bare key"),
		may("sync", "boolean", "false: no {sync: true} between what is there and what comes"),
		may("private", "boolean", "open what is encrypted for us"))
}
