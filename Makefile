# Posthaste. "make run" starts a mail server here, "make test" runs all tests.

GO       ?= go
PREFIX   ?= /usr/local
sbindir  ?= $(PREFIX)/sbin
bindir   ?= $(PREFIX)/bin
mandir   ?= $(PREFIX)/share/man
confdir  ?= /etc/postfix
DESTDIR  ?=

COMMANDS = postfix postconf postmap postalias postqueue postsuper postcat postdrop \
	postlog postkick postlock postgrey sendmail mailq newaliases policyd-spf postfix-policyd-spf-perl

.PHONY: all build run test check lint oracle bench fuzz install uninstall clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/posthaste ./cmd/posthaste
	@for name in $(COMMANDS); do ln -sf posthaste bin/$$name; done

run: build
	@bin/posthaste try run

test:
	$(GO) test -race ./...

# Format, vet, staticcheck, the other system, and the tests: everything that
# must be green before a change is done.
check: lint test

lint:
	@unformatted=$$(gofmt -l cmd internal test bench); if [ -n "$$unformatted" ]; then echo "gofmt wants changes in:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOOS=freebsd CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/posthaste
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...

# The scenarios of real Postfix that must pass, with the logs (needs root).
ORACLE ?= ../shared/oracle
oracle: build
	test/oracle/run.sh $(ORACLE)

bench: build
	$(GO) build -o bin/bench ./bench
	bin/bench

FUZZTIME ?= 10s
fuzz:
	test/fuzz.sh $(FUZZTIME)

# Users and groups as Postfix has them: postfix, postdrop. The queue
# directories and their modes are made by "postfix set-permissions".
install: build
	install -d $(DESTDIR)$(sbindir) $(DESTDIR)$(bindir) $(DESTDIR)$(confdir)
	install -m 755 bin/posthaste $(DESTDIR)$(sbindir)/posthaste
	for name in $(COMMANDS); do ln -sf posthaste $(DESTDIR)$(sbindir)/$$name; done
	for name in mailq newaliases policyd-spf; do ln -sf $(sbindir)/posthaste $(DESTDIR)$(bindir)/$$name; done
	rm -f $(DESTDIR)$(sbindir)/postdrop
	install -m 755 bin/posthaste $(DESTDIR)$(sbindir)/postdrop
	for n in 1 5 8; do \
		install -d $(DESTDIR)$(mandir)/man$$n && install -m 644 docs/man/*.$$n $(DESTDIR)$(mandir)/man$$n || exit; done
	packaging/accounts.sh "$(DESTDIR)" "$(sbindir)"

uninstall:
	for name in posthaste $(COMMANDS); do rm -f $(DESTDIR)$(sbindir)/$$name; done
	for name in mailq newaliases policyd-spf; do rm -f $(DESTDIR)$(bindir)/$$name; done
	cd docs/man && for page in *.[158]; do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$$page; done

clean:
	rm -rf bin run
