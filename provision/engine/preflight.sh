#!/bin/sh
# What preflight asks a host. Runs as the user who logs in and changes nothing. KEY=VALUE lines stand behind a mark,
# since a login shell may print lines of its own. preflight.py writes `password` and `wanted_python` above this text.
# LC_ALL=C keeps sudo's complaints in English; sudo -k makes it forget that somebody just gave the password.
LC_ALL=C
export LC_ALL
say() { printf 'provision:%s=%s\n' "$1" "$2"; }

say user "$(id -un)"
say now "$(date +%s)"
say kernel "$(uname -r)"
say machine "$(uname -m)"
if [ -r /etc/os-release ]; then
    # shellcheck source=/dev/null
    . /etc/os-release
    say id "$ID"
    say version "$VERSION_ID"
    say codename "$VERSION_CODENAME"
    say pretty "$PRETTY_NAME"
fi

if [ "$(id -u)" = 0 ]; then
    say sudo root
elif ! command -v sudo >/dev/null 2>&1; then
    say sudo missing
elif told=$(sudo -k -n true </dev/null 2>&1); then
    say sudo free
elif [ -z "${password:-}" ]; then
    say sudo asks
    say sudo_said "$(printf '%s' "$told" | tail -n 1)"
elif told=$(printf '%s\n' "$password" | sudo -k -S -p '' true 2>&1); then
    say sudo password
else
    say sudo refused
    say sudo_said "$(printf '%s' "$told" | tr '\n' ' ')"
fi

for python in "${wanted_python:-}" /usr/bin/python3 python3; do
    path=$(command -v "${python:-none}" 2>/dev/null) || continue
    ask='import sys; print(".".join(map(str, sys.version_info[:3])))'
    version=$("$path" -I -c "$ask" </dev/null 2>/dev/null) || continue
    say python "$path"
    say python_version "$version"
    "$path" -I -c 'import apt' </dev/null 2>/dev/null && say python_apt yes
    break
done

for folder in / /var /tmp; do
    say "free $folder" "$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }')"
done
say end yes
