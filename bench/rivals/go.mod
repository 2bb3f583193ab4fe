// The Go peers that Charkha is measured against, kept out of its own dependencies. Do not tidy: a test dependency of
// theirs is gone with its host.
module charkha/bench/rivals

go 1.26.0

require (
	charkha v0.0.0
	github.com/ssbc/go-muxrpc/v2 v2.0.14-0.20221111190521-10382533750c
	github.com/ssbc/go-secretstream v1.2.11-0.20221111164233-4b41f899f844
	go.mindeco.de v1.12.0
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/go-logfmt/logfmt v0.4.0 // indirect
	github.com/hashicorp/errwrap v1.1.0 // indirect
	github.com/hashicorp/go-multierror v1.1.0 // indirect
	github.com/karrick/bufpool v1.2.0 // indirect
	github.com/karrick/gopool v1.2.2 // indirect
	github.com/kr/logfmt v0.0.0-20140226030751-b84e30acd515 // indirect
	github.com/oasisprotocol/curve25519-voi v0.0.0-20230904125328-1f23a7beb09a // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/ssbc/go-luigi v0.3.7-0.20221019204020-324065b9a7c6 // indirect
	github.com/ssbc/go-netwrap v0.1.5-0.20221019160355-cd323bb2e29d // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace charkha => ../..
