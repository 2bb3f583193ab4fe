# make run    build and start a node            make test   every test, the interop tests with npm peers included
# make check  formatting, vet, linters, builds  make bench  speed beside the rivals, into bench/RESULTS.md    make fuzz  every fuzz target, FUZZTIME each
# make soak   50 nodes for 30 days of virtual time, half an hour of real time
GO       ?= go
FUZZTIME ?= 60s
TOOL      = $(GO) tool -modfile=tools/go.mod
JS        = interop/js

# GOOS/GOARCH[/GOARM] that must build besides this machine's own.
PLATFORMS = linux/amd64 linux/arm64 linux/arm darwin/arm64 windows/amd64

.PHONY: run build test check cross vuln bench sim soak fuzz interop interop-peers clean
.DEFAULT_GOAL := build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/charkha ./cmd/charkha

run: build
	./bin/charkha start $(ARGS)

# purego is how other processors check signatures: without assembly.
# -race needs cgo and a C compiler; without one the tests run without it and say so.
RACE := $(shell CGO_ENABLED=1 $(GO) env CC | xargs -r which >/dev/null 2>&1 && echo -race)

# go test does not tell of the skips of a package that passes: this says it once when networks of hosts cannot be made.
NETNS = $(GO) test $(RACE) -count=1 -v -run '^TestHostsSeeEachOtherAndNothingElse$$' ./internal/netns | sed -n \
	-e 's/.*\(NO NETWORK NAMESPACES\)/NOTE: the tests of hosts on a network are skipped: \1/p' \
	-e 's/.*no test files.*/NOTE: the tests of hosts on a network are skipped: they need Linux/p'

test: interop-peers
	$(if $(RACE),,@echo "NOTE: no C compiler found: running without the race detector")
	@$(NETNS)
	$(GO) test $(RACE) -shuffle=on ./...
	$(GO) test -tags purego ./identity ./log/internal/classic
	$(GO) test $(RACE) -shuffle=on -tags interop -timeout 12m ./interop/... ./replicate/internal/room

interop: interop-peers
	$(GO) test $(RACE) -tags interop -timeout 12m -v ./interop/... ./replicate/internal/room

# The npm peers, as their lock file pins them. npm ci empties node_modules first, so it runs only when the lock changed.
interop-peers: $(JS)/node_modules/.package-lock.json
$(JS)/node_modules/.package-lock.json: $(JS)/package-lock.json $(JS)/package.json
	cd $(JS) && npm ci --no-audit --no-fund
	@touch $@

check: cross vuln
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt wants changes in:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags interop ./interop/... ./replicate/internal/room
	$(TOOL) staticcheck -tags interop ./...
	cd bench/rivals && $(GO) vet ./... && $(GO) mod tidy -diff
	$(GO) mod verify
	$(GO) mod tidy -diff

cross:
	@set -e; for p in $(PLATFORMS); do \
		os=$${p%%/*}; arch=$${p#*/}; echo "build $$os/$$arch"; \
		CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch GOARM=6 $(GO) build -o /dev/null ./cmd/charkha; done

# The vulnerability database is on the network: where it cannot be reached, that is said and is no failure; a finding is.
vuln:
	@out=$$($(TOOL) govulncheck ./... 2>&1); code=$$?; \
	if [ $$code -eq 0 ]; then echo "govulncheck: nothing known"; \
	elif echo "$$out" | grep -qE 'fetching vulnerabilities|dial tcp|no such host|vuln\.go\.dev.*(403|404|5[0-9][0-9])'; then \
		echo "NOTE: govulncheck did not run: its database cannot be reached from here"; \
	else echo "$$out"; exit $$code; fi

# The bars, beside ssb-db2, into bench/RESULTS.md; then each stage by itself.
bench: interop-peers
	$(GO) run ./bench
	$(GO) test -run '^$$' -bench . -benchmem ./...
	cd bench/rivals && $(GO) test -run '^$$' -bench . -benchmem -cpu 1 ./...

# The simulator's bars, then its table and plot.
sim:
	CHARKHA_SIM=1 $(GO) test -timeout 30m ./replicate/sim
	$(GO) run ./replicate/sim

# Built against a copy of Badger that looks for something to compact once a minute instead of every 50 ms: see TestSoak.
BADGER = github.com/dgraph-io/badger/v4
soak:
	@set -e; d=$$(mktemp -d); trap 'rm -rf "$$d"' EXIT; \
	cp -r "$$($(GO) list -m -f '{{.Dir}}' $(BADGER))" $$d/badger; chmod -R u+w $$d/badger; cp go.sum $$d/soak.sum; \
	sed -i.orig 's/time.NewTicker(50 \* time.Millisecond)/time.NewTicker(time.Minute)/' $$d/badger/levels.go; \
	if cmp -s $$d/badger/levels.go $$d/badger/levels.go.orig; then echo "Badger's compactors are others than before"; exit 1; fi; \
	$(GO) mod edit -print -replace $(BADGER)=$$d/badger go.mod > $$d/soak.mod; \
	CHARKHA_SOAK=1 $(GO) test -modfile=$$d/soak.mod -timeout 3h -count 1 -v -run '^TestSoak$$' ./replicate

fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "fuzz $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$pkg; done; done

clean:
	rm -rf bin $(JS)/node_modules
