#!/bin/sh
# Programs that the appliance and its tests can use and that no Python package brings. Each is optional: without one the
# box runs, less well. As root on Debian or Ubuntu they are installed; elsewhere one line says what is missing.
set -u

have() { command -v "$1" >/dev/null 2>&1; }

missing="" costs=""
want() { # package, what goes without it
	missing="$missing $1"
	costs="${costs:+$costs; }$1: $2"
}

have redis-server || have valkey-server || want redis-server "no cache, everything is computed each time"
have espeak-ng || want espeak-ng "no synthetic speech, so tests of speech and the demo talk's voice are skipped"
have strace || want strace "tests that watch which files are opened are skipped"
have chromium || have chromium-browser || have google-chrome ||
	want chromium "tests of the pages in a real browser are skipped"
have ffmpeg || want ffmpeg "comparisons with the ffmpeg command line are skipped"
ls /usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf >/dev/null 2>&1 ||
	{ have fc-list && [ -n "$(fc-list 'DejaVu Sans' 2>/dev/null)" ]; } ||
	want fonts-dejavu-core "captions in Arabic, Hebrew or Armenian lack letters"

[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && have apt-get; then
	echo "Installing$missing"
	log=$(mktemp)
	# shellcheck disable=SC2086 # a list of package names
	if DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 &&
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >>"$log" 2>&1; then
		rm -f "$log"
		exit 0
	fi
	tail -n 3 "$log" >&2
	rm -f "$log"
fi
echo "Not installed (optional): $costs. On Debian or Ubuntu: sudo apt-get install$missing" >&2
