#!/usr/bin/env bash
# Builds Caddy with this module, runs a demo, runs the tests. It needs Go;
# `test` reports what else it needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Ignore the user's flags and a workspace in a parent folder.
export GOFLAGS='' GOWORK=off

readonly build=.build # build results, logs and Caddy's data

usage() {
	cat <<'END'
./xcaddy.sh               builds ./caddy: Caddy with this module
./xcaddy.sh demo          builds it and runs it in front of the petstore
./xcaddy.sh demo tokens   the same with a stand-in for a language model
./xcaddy.sh run [flags]   builds it and runs it: ./xcaddy.sh run --config Caddyfile
./xcaddy.sh test          runs all tests
./xcaddy.sh fuzz [time]   runs each fuzz target for a time (default: 5m)
END
}

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# with_own_data keeps the certificates and settings of the system's Caddy
# untouched.
with_own_data() {
	XDG_DATA_HOME=$PWD/$build/data XDG_CONFIG_HOME=$PWD/$build/config "$@"
}

# ---------------------------------------------------------------- build

need_go() {
	command -v go >/dev/null || fail "Go is missing: install it from https://go.dev/dl/ (the version is in go.mod)"
}

caddy_version() { go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2; }

# A build takes a minute or two. It is skipped if no source is newer than its
# result.
is_built() {
	[[ -x caddy ]] && [[ -z $(find . \( -name node_modules -o -name "$build" -o -name .git \) -prune -o \
		\( -name '*.go' -o -name go.mod -o -name go.sum \) ! -name '*_test.go' -newer caddy -print) ]]
}

build_caddy() {
	need_go
	mkdir -p "$build"
	if is_built; then return; fi
	local version started=$SECONDS
	version=$(caddy_version)
	say "building ./caddy: Caddy ${version#v} with this module (the first time takes some minutes)"
	# The build may miss a source that changes while it runs, so its result
	# gets the time of the build's start.
	touch "$build/begun"
	# With @v0.0.0 xcaddy does not ask the module proxy for versions.
	if ! go tool xcaddy build "$version" --output "$build/caddy" \
		--with "$(go list -m)@v0.0.0=." >"$build/xcaddy.log" 2>&1; then
		cat "$build/xcaddy.log" >&2
		fail "the build has failed"
	fi
	touch -r "$build/begun" "$build/caddy"
	mv "$build/caddy" caddy
	say "built ./caddy in $((SECONDS - started)) s"
}

build_example() { go build -buildvcs=false -o "$build/$1" "./examples/$1"; }

# ---------------------------------------------------------------- demo

backend='' caddy_pid='' backend_pid=''

# answers succeeds if a local port responds to a URL path with 200. It needs
# only bash.
answers() {
	local status
	exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
	printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
	read -r -t 5 status <&3 || status=''
	exec 3>&-
	[[ $status == HTTP/*' 200 '* ]]
} 2>/dev/null

is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports() {
	local port
	for port in 8080 8443 9001 2029; do
		if is_taken "$port"; then
			fail "port $port is taken: the demo needs 8080, 8443, 9001 and 2029. Stop the program that listens there."
		fi
	done
}

is_running() { kill -0 "$1" 2>/dev/null; }

# end stops the processes that the demo has started, and no others.
end() {
	trap - EXIT INT TERM
	local pid
	for pid in $caddy_pid $backend_pid; do
		kill -TERM "$pid" 2>/dev/null || true
	done
	for pid in $caddy_pid $backend_pid; do
		wait "$pid" 2>/dev/null || true
	done
}

check_alive() {
	is_running "$backend_pid" || died "$backend"
	is_running "$caddy_pid" || died caddy
}

died() {
	say "$1 has ended. Its last lines ($build/$1.log):" >&2
	tail -n 15 "$build/$1.log" >&2
	exit 1
}

wait_until_both_answer() { # with 200 to a path
	local tries=0
	until answers 9001 "$1" && answers 8080 "$1"; do
		check_alive
		((++tries < 150)) || fail "no response on port 8080: see $build/caddy.log and $build/$backend.log"
		sleep 0.2
	done
}

tell_urls() {
	cat <<'END'

  http://localhost:8080     HTTP/1.1
  https://localhost:8443    HTTP/2 and HTTP/3, which carry many streams on one connection. The
                            browser warns once about the certificate of Caddy's own CA

END
}

tell_petstore() {
	say $'\nThe petstore is live:'
	tell_urls
	cat <<'END'
In other terminals, stream the inventory, change it through Caddy, then at the backend:

  curl -N -H 'Accept: text/event-stream' http://localhost:8080/v1/inventory
  curl -X PATCH -d '{"stock":42}' http://localhost:8080/v1/inventory/1
  curl -X PATCH -d '{"stock":7}' http://127.0.0.1:9001/v1/inventory/1
END
}

tell_tokens() {
	say $'\nAnswers survive their connections:'
	tell_urls
	cat <<'END'
In another terminal, reload Caddy while an answer comes:

  ./caddy reload --force --config examples/tokens/Caddyfile
END
}

# demo runs an example's backend behind Caddy.
demo() {
	local config path
	backend=$1
	case $backend in
	petstore) config=Caddyfile.example path=/v1/inventory ;;
	tokens) config=examples/tokens/Caddyfile path=/v1/models ;;
	*) fail "there is no demo $backend: petstore (the default), tokens" ;;
	esac
	check_ports
	build_caddy
	build_example "$backend"
	PETSTORE_WEBHOOK_SECRET=whsec_$(head -c 24 /dev/urandom | base64 | tr -d '\n')
	export PETSTORE_WEBHOOK_SECRET
	trap end EXIT
	trap 'exit 0' INT TERM
	"$build/$backend" >"$build/$backend.log" 2>&1 &
	backend_pid=$!
	# exec: the pid must be Caddy's, not that of a shell around it.
	(with_own_data exec ./caddy run --config "$config") >"$build/caddy.log" 2>&1 &
	caddy_pid=$!
	wait_until_both_answer "$path"
	"tell_$backend"
	say $'\nCtrl-C ends the demo.'
	while check_alive; do
		sleep 1 &
		wait $! # a signal interrupts this, and not a sleep in the foreground
	done
}

# ---------------------------------------------------------------- test

left_out=() # the tests that can't run, and why

heading() { printf '\n== %s\n' "$*"; }

is_root_on_debian() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

node_major() { node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0; }

# need_tools installs missing tools if it runs as root on Debian. The caller has
# to check for tools that are still missing.
need_tools() {
	is_root_on_debian || return 0
	local tool missing=()
	for tool in gcc:gcc chromium:chromium curl:curl node:nodejs npm:npm; do
		command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
	done
	[[ ${missing[*]-} == *gcc* ]] && missing+=(libc6-dev)
	[[ ${#missing[@]} == 0 ]] || apt_install "${missing[@]}"
	need_daemons
}

apt_install() {
	heading "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } >"$build/apt.log" 2>&1; then
		tail -n 20 "$build/apt.log"
		say "apt-get could not install $*"
	fi
}

# The backends of the end-to-end tests: what shows that one is installed, its
# package, and its service.
readonly daemons='
	prometheus prometheus prometheus
	prometheus-alertmanager prometheus-alertmanager prometheus-alertmanager
	php-fpm* php-fpm php*-fpm
	etcd etcd-server etcd
	aria2c aria2 -
	nginx nginx-light nginx
	transmission-daemon transmission-daemon transmission-daemon
	qbittorrent-nox qbittorrent-nox -
	syncthing syncthing -
	docker-registry docker-registry docker-registry
	radicale radicale radicale
	redis-server redis-server redis-server
	webdis webdis webdis
	/usr/share/dokuwiki dokuwiki -
	/usr/lib/python3/dist-packages/rest_framework python3-djangorestframework -
'

# find_daemon succeeds if a program or a path is there. Debian's php-fpm has its
# version in its name, and /usr/sbin isn't on every user's PATH.
find_daemon() {
	if [[ $1 == /* ]]; then [[ -e $1 ]]; else
		command -v "${1%\*}" || compgen -G "/usr/sbin/$1"
	fi
} >/dev/null

missing_daemons() { # prints the packages of those that are missing
	local name package service
	while read -r name package service; do
		[[ -z $name ]] || find_daemon "$name" || printf '%s\n' "$package"
	done <<<"$daemons"
}

# need_daemons installs the backends of the tests. The tests start them: the
# packages must start no service, neither now nor at boot.
need_daemons() {
	local missing script name package service
	mapfile -t missing < <(missing_daemons)
	[[ ${#missing[@]} == 0 ]] && return
	if ! without_services apt_install "${missing[@]}"; then
		say "not installed: ${missing[*]}, because /usr/sbin/policy-rc.d would start them"
		return
	fi
	while read -r name package service; do
		[[ " ${missing[*]} " == *" $package "* ]] || continue
		for script in /etc/init.d/$service; do
			[[ ! -e $script ]] || update-rc.d "${script##*/}" disable >>"$build/apt.log" 2>&1 || true
		done
	done <<<"$daemons"
}

# without_services runs a command that installs packages, and starts no service:
# Debian's maintainer scripts start none if policy-rc.d exits with 101. If the
# machine has its own policy-rc.d, that must exit with 101, too.
without_services() (
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $policy ]]; then
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	status=0
	"$policy" prometheus start >/dev/null 2>&1 || status=$?
	((status == 101)) || return 1
	"$@"
)

# Debian 12 has Node 18. npm's registry has newer versions as a package.
need_node() {
	if (($(node_major) >= 20)) || ! command -v npm >/dev/null; then return; fi
	heading "installing Node 22 beside $(node --version)"
	npm install --prefix "$build/node" --no-save --no-audit --no-fund --loglevel=error node@22.23.3 || return 0
	PATH=$PWD/$build/node/node_modules/.bin:$PATH
}

check_format() {
	local unformatted
	unformatted=$(find . \( -name node_modules -o -name "$build" \) -prune -o -name '*.go' -exec gofmt -l {} +)
	[[ -z $unformatted ]] || fail "not formatted, run gofmt -w: $unformatted"
}

# summary shortens the output of `go test -v` to a line for each package and each
# skipped test, and the whole output of failed packages. With fail_skips, a skip
# is a failure: nobody else runs a test that CI skips.
summary() {
	awk -v fail_skips="$1" '
		/^(=== (RUN|PAUSE|CONT|NAME)|PASS$|{"level":"(debug|info|warn)")/ { next }
		/^ *--- SKIP/ { skips++; print "skipped: " $0 " " last }
		!/^ *--- PASS/ { said[n++] = $0 }
		!/^ *---/ { last = $0 }
		/^(ok|\?|FAIL)[ \t]/ {
			if (/^FAIL/) for (i = 0; i < n; i++) print said[i]
			else print
			n = 0
			fflush()
		}
		END {
			for (i = 0; i < n; i++) print said[i]
			if (skips) print skips " skipped"
			exit skips && fail_skips ? 1 : 0
		}'
}

# need_nats installs the server that the tests of `store nats` start.
need_nats() {
	local version=v2.15.2
	PATH=$PWD/$build/bin:$PATH
	if command -v nats-server >/dev/null && [[ $(nats-server --version) == *"$version" ]]; then return; fi
	heading "installing nats-server $version"
	GOBIN=$PWD/$build/bin go install "github.com/nats-io/nats-server/v2@$version"
}

test_go() {
	heading "gofmt"
	check_format
	heading "go mod tidy"
	go mod tidy -diff
	heading "go vet"
	go vet ./...
	heading "staticcheck"
	go tool staticcheck ./...
	heading "go test -race"
	local race=(-race)
	if ! command -v "${CC:-gcc}" >/dev/null; then
		race=()
		left_out+=("the race detector: it needs a C compiler")
	fi
	# Caddy runs in these tests, too. GOENV keeps Go's settings.
	GOENV=$(go env GOENV) with_own_data \
		go test ${race[@]+"${race[@]}"} -v -timeout 20m ./... 2>&1 | summary "$in_ci"
}

# missing_for_e2e prints the missing tools that the end-to-end tests need.
missing_for_e2e() {
	local tool
	for tool in npm curl; do
		command -v "$tool" >/dev/null || printf '%s ' "$tool"
	done
	(($(node_major) >= 20)) || printf 'node>=20 '
	command -v "${CHROMIUM:-chromium}" >/dev/null || printf 'chromium '
	if command -v curl >/dev/null && ! curl --version | grep -q HTTP2; then printf 'curl-with-HTTP/2 '; fi
}

test_e2e() {
	need_node
	local missing
	missing=$(missing_for_e2e)
	if [[ -n $missing ]]; then
		left_out+=("the end-to-end tests: missing $missing")
		return
	fi
	# The tests skip themselves if these are missing.
	local package
	while read -r package; do
		left_out+=("the end-to-end tests with $package: it is missing")
	done < <(missing_daemons)
	build_caddy
	build_example petstore
	build_example tokens
	heading "end-to-end tests"
	(
		cd e2e
		export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
		if ! [[ node_modules/.package-lock.json -nt package-lock.json ]]; then
			npm ci --no-audit --no-fund --loglevel=error
		fi
		node --test --test-concurrency=1 --test-reporter=spec
	)
}

run_tests() {
	need_go
	mkdir -p "$build"
	in_ci=0
	if [[ ${CI:-} == true ]]; then in_ci=1; fi
	need_tools
	need_nats
	test_go
	test_e2e
	if [[ ${#left_out[@]} == 0 ]]; then
		heading "all tests passed"
		return
	fi
	heading "passed, but without:"
	printf '%s\n' "${left_out[@]}"
	return "$in_ci"
}

# ---------------------------------------------------------------- fuzz

# fuzz runs one target after the other and prints a line for each. It writes a
# finding to testdata/fuzz of the package, and fails.
fuzz() {
	need_go
	local file target found=0
	while IFS=: read -r file target; do
		printf '%s %s: ' "${file%/*}" "$target"
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./${file%/*}" >"$build/fuzz.log" 2>&1; then
			tail -n 3 "$build/fuzz.log" | grep -o 'execs: .*' || printf 'the time was too short\n'
		else
			found=1
			printf 'FAILED\n'
			cat "$build/fuzz.log"
		fi
	done < <(grep -ro --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z]*' . | sed 's/func //' | sort)
	return "$found"
}

# ---------------------------------------------------------------- start

case ${1-} in
'') build_caddy ;;
demo) demo "${2-petstore}" ;;
test) run_tests ;;
fuzz)
	mkdir -p "$build"
	fuzz "${2-5m}"
	;;
run)
	build_caddy
	with_own_data exec ./caddy "$@"
	;;
*)
	usage >&2
	exit 2
	;;
esac
