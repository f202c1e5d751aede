#!/bin/sh
# The device's half of a connection: processes that outlive a lost line, one user at a time, nothing left behind. POSIX
# sh, setsid and the usual small tools, as Debian and Android's toybox have them; no root, no port.
#
#     sh FOLDER/.device.sh VERB ...        in the work folder FOLDER, which the host has made
#
#     open LOCK LEASE OWNER     take the device, start the guard; says "busy HOLDER" where somebody has it
#     receive NAME BYTES        stdin to NAME, complete or not at all; says "full FREE" where it does not fit
#     send NAME                 "here" and its content, or "absent"
#     start ID COMMAND ...      start a command; nothing happens if ID was started before
#     wait ID SECONDS           "running", or "ended STATUS BYTES" and its stdout (so many bytes) and stderr
#     stop ID                   ask it to end, kill what is left after three seconds
#     close                     end all, remove the folder, give the device back
#
# What must be known is kept in links, .ID.pid and .ID.status for example: a disk that is full still takes those, and each
# exists with all that it says, or not at all. Every call renews the lease. A guard that has not been called for LEASE
# seconds closes: the host is gone.
set -u
PATH=$PATH:/usr/bin:/bin
folder=${0%/*}
cd "$folder" || exit 9
umask 077

alive() { # PID: it runs, and is no zombie
    [ -r "/proc/$1/stat" ] || return 1
    read -r line <"/proc/$1/stat" 2>/dev/null || return 1
    case ${line##*) } in Z* | X*) return 1 ;; esac
}

nap() { # MILLISECONDS: whole seconds where sleep knows no others
    sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))" 2>/dev/null || sleep 1
}

lock() { # LOCK LEASE OWNER
    setsid sh "$folder/.device.sh" guard "$1" "$2" </dev/null >/dev/null 2>&1 &
    mine="$! $folder $3"
    tries=0
    until ln -s "$mine" "$1" 2>/dev/null; do
        holder=$(readlink "$1") || holder=
        pid=${holder%% *}
        tries=$((tries + 1))
        if [ "$tries" -gt 3 ] || { [ -n "$holder" ] && guards "$pid" "$holder"; }; then
            kill "$!" 2>/dev/null
            echo "busy ${holder#* }"
            return
        fi
        # Its guard is gone: the device was restarted. Of several who see that, one moves the link away.
        mv "$1" "$folder/.stale" 2>/dev/null
        rm -f "$folder/.stale"
    done
    ln -s "$1" .lock
    ln -s "$!" .guard
    remove_left
    echo open
}

remove_left() { # work folders beside this one, whose guards are gone: the device was restarted, or they were killed
    for each in "${folder%/*}"/edgeprune-????????????????; do
        [ "$each" != "$folder" ] && [ -d "$each" ] && [ -O "$each" ] || continue
        if pid=$(readlink "$each/.guard"); then
            guards "$pid" "$pid $each" && continue
        elif [ -z "$(find "$each" -prune -mmin +10)" ]; then
            continue # somebody is about to open it
        fi
        for name in "$each"/.*.pid; do
            pid=$(readlink "$name") && in_folder "$pid" "$each" && kill -s KILL -- "-$pid" 2>/dev/null
        done
        rm -rf "$each"
    done
}

in_folder() { # PID FOLDER: that process works there, so that its number is no stranger's
    [ "$(readlink "/proc/$1/cwd")" = "$2" ]
}

guards() { # PID HOLDER: that process is the guard of the holder's folder
    rest=${2#* }
    # The shell leaves out the zero bytes between the words.
    case $(cat "/proc/$1/cmdline" 2>/dev/null) in *"${rest%% *}/.device.sh"guard*) return 0 ;; esac
    return 1
}

guard() { # LOCK LEASE
    trap '' HUP INT
    silent=0
    cd / # whoever unmounts what the folder lies on is not kept from it
    while [ "$silent" -lt "$2" ]; do
        sleep 1
        [ -e "$folder/.device.sh" ] || exit 0
        silent=$((silent + 1))
        if [ -e "$folder/.called" ]; then
            rm -f "$folder/.called"
            silent=0
        fi
    done
    cd "$folder" && end_all
}

run() { # ID COMMAND ...: in a session of its own
    # A trap that does something is not inherited: the command gets the signal, this shell outlives it.
    trap : TERM INT HUP
    id=$1
    shift
    "$@"
    ln -s "$?" ".$id.status"
}

start() { # ID COMMAND ...
    id=$1
    if mkdir ".$id.started" 2>/dev/null; then
        setsid sh "$folder/.device.sh" run "$@" </dev/null >".$id.out" 2>".$id.err" &
        ln -s "$!" ".$id.pid"
    fi
    echo started
}

wait_for() { # ID SECONDS
    pid=$(readlink ".$1.pid") || pid=0
    left=$(($2 * 1000))
    step=20 # often at first, seldom later: each look costs the measured device a process
    while [ ! -h ".$1.status" ] && alive "$pid"; do
        if [ "$left" -le 0 ]; then
            echo running
            return
        fi
        nap "$step"
        left=$((left - step))
        step=$((step * 2))
        [ "$step" -le 1000 ] || step=1000
    done
    # Killed with its shell, by the kernel for want of memory most likely.
    status=$(readlink ".$1.status") || status=137
    end_group "$1" "$pid"
    echo "ended $status $(wc -c <".$1.out")"
    cat ".$1.out" ".$1.err"
}

stop() { # ID
    pid=$(readlink ".$1.pid") || return 0
    kill -s TERM -- "-$pid" 2>/dev/null
    tries=0
    while [ ! -h ".$1.status" ] && alive "$pid" && [ "$tries" -lt 30 ]; do
        nap 100
        tries=$((tries + 1))
    done
    end_group "$1" "$pid"
}

end_group() { # ID PID: whoever is left of it, once: later the number may be somebody else's
    [ "$2" = 0 ] || kill -s KILL -- "-$2" 2>/dev/null
    rm -f ".$1.pid"
}

end_all() {
    for name in .*.pid; do
        id=${name#.}
        stop "${id%.pid}"
    done
    path=$(readlink .lock)
    case $(readlink "$path") in *" $folder "*) rm -f "$path" ;; esac
    cd / && rm -rf "$folder"
}

receive() { # NAME BYTES
    free=$(df -Pk . | tail -n 1 | { read -r _ _ _ free _ && echo "$free"; })
    if [ "$(($2 / 1024 + 1))" -gt "$free" ]; then
        echo "full $((free * 1024))"
        return
    fi
    case $1 in */*) mkdir -p "${1%/*}" ;; esac
    if cat >".arriving" && [ "$(wc -c <".arriving")" -eq "$2" ] && mv ".arriving" "$1"; then
        echo received
    else
        rm -f ".arriving"
        echo incomplete
    fi
}

send() { # NAME
    if [ -f "$1" ]; then
        echo here
        cat "$1"
    else
        echo absent
    fi
}

verb=$1
shift
[ "$verb" = guard ] || [ "$verb" = run ] || : >.called
case $verb in
open) lock "$@" ;;
guard) guard "$@" ;;
receive) receive "$@" ;;
send) send "$@" ;;
start) start "$@" ;;
run) run "$@" ;;
wait) wait_for "$@" ;;
stop) stop "$@" && echo stopped ;;
close)
    pid=$(readlink .guard) && kill "$pid" 2>/dev/null
    end_all
    echo closed
    ;;
*)
    echo "unknown verb $verb" >&2
    exit 9
    ;;
esac
