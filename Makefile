# slipway: the only entry point people need. `make help` explains every word.

CARGO    ?= cargo
ARCH     ?= $(shell uname -m)
TARGET   ?= $(ARCH)-unknown-linux-musl
FLAVOUR  ?= full
APPLETS  ?=
FEATURES ?= $(if $(APPLETS),$(APPLETS),$(FLAVOUR))

DESTDIR  ?=
PREFIX   ?= /usr
BINDIR   ?= $(PREFIX)/bin
UNITDIR  ?= $(PREFIX)/lib/systemd/system
GENERATORDIR ?= $(PREFIX)/lib/systemd/system-generators
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
T        ?= 60
PEER     ?=
KERNEL   ?=

comma    := ,
OUT      := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BIN      := $(OUT)/$(TARGET)/release/slipway
BUILD    := $(CARGO) build --release --locked --target $(TARGET) --no-default-features --features "$(FEATURES)"

# Two builds in two directories give the same bytes: no path of this machine may reach the binary.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
REMAP     = $(shell sh tests/tools/remap.sh "$(CURDIR)")
# GNU ld leaves out unwinding tables and packs the relocations: 15 % of the binary.
LEAN     := $(if $(findstring x86_64,$(TARGET)),$(addprefix -Clink-arg=-Wl$(comma),\
            -T$(comma).cargo/lean.ld -z$(comma)pack-relative-relocs))
RELEASE  := RUSTFLAGS="$(RUSTFLAGS) $(LEAN) $(REMAP)"

.DEFAULT_GOAL := all
.PHONY: all demo check test diff-test vm-test fuzz bench size repro deny install install-units uninstall completions man \
        help clean dist cross static

## build the static executable (FLAVOUR=full|initramfs, APPLETS="a b", TARGET=triple)
all: static
static:
	@sh tests/tools/need.sh build "$(TARGET)"
	@$(RELEASE) $(BUILD)
	@ls -l $(BIN) | awk '{ print $$NF ": " $$5 " bytes" }'

## watch a signed A/B update onto a disk image: no root, a few minutes
demo:
	@sh tests/demo/run.sh "$(TARGET)"

## format, lints, unit tests, vectors, transcripts: no root, no network
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked

## what a user runs: install what is missing, build, check, and all that can run here
test:
	@sh tests/tools/need.sh test "$(TARGET)"
	@sh tests/tools/test.sh "$(TARGET)" "$(BIN)"

## the same work done by the real systemd 262 (PEER=its root directory; root)
diff-test:
	@sh tests/tools/need.sh diff "$(TARGET)"
	@test -n "$(PEER)" || { echo "make diff-test: PEER=DIR must name a root directory with systemd 262" >&2; exit 1; }
	PEER="$(PEER)" REQUIRE_ALL=1 $(CARGO) test --locked --test '*_peer' -- --show-output

## boot machines in QEMU (KERNEL=bzImage of tests/vm/build-kernel.sh; no root)
vm-test: static
	@sh tests/tools/need.sh vm "$(TARGET)"
	SLIPWAY_STATIC="$(abspath $(BIN))" KERNEL="$(KERNEL)" $(CARGO) test --locked --test 'vm_*' -- --show-output

## throw broken input at every parser for T seconds each (T=60)
fuzz:
	@sh tests/fuzz/run.sh "$(T)"

## time and memory, side by side with the peer where PEER=DIR is given
bench: static
	@PEER="$(PEER)" sh tests/bench/run.sh "$(BIN)"

## size of the binary and of each applet, against tests/bench/size.txt
size: static
	@sh tests/bench/size.sh "$(BIN)" "$(TARGET)"

## build twice in two directories and compare
repro:
	@sh tests/tools/repro.sh "$(TARGET)"

## licences, duplicates and sources of all dependencies (cargo-deny)
deny:
	@sh tests/tools/deny.sh

## build what needs no C compiler for another machine (ARCH=aarch64)
cross:
	@sh tests/tools/cross.sh "$(if $(filter $(shell uname -m),$(ARCH)),aarch64,$(ARCH))"

## shell completions into target/completions
completions: static
	$(BIN) --generate=bash --output=$(OUT)/completions/bash
	$(BIN) --generate=zsh --output=$(OUT)/completions/zsh
	$(BIN) --generate=fish --output=$(OUT)/completions/fish

## manual pages into target/man
man: static
	$(BIN) --generate=man --output=$(OUT)/man

## install the binary and its applet links (DESTDIR, PREFIX, BINDIR)
install: all
	install -D -m 0755 $(BIN) $(DESTDIR)$(BINDIR)/slipway
	$(DESTDIR)$(BINDIR)/slipway --install $(DESTDIR)$(BINDIR)

## install units, generator and user for systemd (UNITDIR, GENERATORDIR, SYSUSERSDIR)
install-units:
	@sh tests/tools/install-units.sh "$(DESTDIR)" "$(BINDIR)" "$(UNITDIR)" "$(GENERATORDIR)" \
		"$(SYSUSERSDIR)"

## remove what install made
uninstall:
	@sh tests/tools/uninstall.sh "$(DESTDIR)$(BINDIR)"

## source archive with all crates, binary and SHA256SUMS into target/dist
dist: static
	@sh tests/tools/dist.sh "$(BIN)" "$(TARGET)" "$(OUT)"

## remove everything that was built
clean:
	$(CARGO) clean
	rm -rf tests/fuzz/target tests/bench/out

## show these words
help:
	@awk '/^## /{ text = substr($$0, 4); next } /^[a-z-]+:/ && text { sub(/:.*/, ""); printf "  make %-12s %s\n", $$0, text; text = "" }' Makefile
