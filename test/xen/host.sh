# What a person does on a Xen host of his own, in the initial domain that
# guests/xen/init has set up: the guest of /guest/config goes on as a domain, its
# core is dumped to the second partition of the disk, and it ends.
said=/run/guest

# Waits until a command succeeds.
await() {
    patience=300
    until "$@" >/dev/null 2>&1; do
        sleep 0.1
        patience=$((patience - 1))
        [ $patience -gt 0 ] || fail "not in time: $*; the guest's last words: $(tail -n 3 $said)"
    done
}
# The guest's console has had a text so many times.
has() { [ "$(grep -c "$1" $said)" -ge "$2" ]; }

xl create -q -p /guest/config || fail 'xl create failed'
console=/local/domain/$(xl domid guest)/console
await xenstore read "$console/tty"
tty=$(xenstore read "$console/tty")
stty raw -echo <"$tty"
cat "$tty" >$said 2>/dev/null &
xl unpause guest
await has 'previrt: goes on' 1
await has '^tick' 5

# It stands still, and goes on.
xl sysrq guest s
await has 'previrt: stopped' 1
before=$(grep -c '^tick' $said)
sleep 2
[ "$(grep -c '^tick' $said)" = "$before" ] || fail 'it does not stand still'
xl sysrq guest g
await has 'previrt: goes on' 2
await has '^tick' $((before + 3))

# It leaves the host, but not in the middle of a line: the wedge's words, which have marks around them, begin one.
times=2
tick='^tick [0-9]*.$'
stops() {
    xl sysrq guest s
    await has 'previrt: stopped' $times
    grep 'previrt: stopped' $said | tail -n 1 | grep -q "^[$(printf '\002\003')]*previrt"
}
until stops; do
    times=$((times + 1))
    xl sysrq guest g
    await has 'previrt: goes on' $times
    await has "$tick" $(($(grep -c "$tick" $said) + 2))
done
xl dump-core guest /dev/vda2 || fail 'xl dump-core failed'
grep "$tick" $said | tail -n 1
xl sysrq guest q
gone() { ! xl domid guest; }
await gone
sync
echo 'the domain is gone'
