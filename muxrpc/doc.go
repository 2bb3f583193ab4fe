// Package muxrpc speaks muxrpc, the remote procedure calls of Secure Scuttlebutt, over one connection.
package muxrpc
