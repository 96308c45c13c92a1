#!/bin/sh
# The Internet of the compose world: it has .253 in every region, takes .254 (which every region's containers have as
# their default route) beside it, and forwards. Docker keeps .254 of each network for a gateway and gives it to nobody,
# hence this script and the NET_ADMIN capability, which counts inside this container's own network only.
set -eu
ip -o -4 address show scope global | while read -r _ device _ address _; do
    ip address add "${address%.*}.254/24" dev "$device"
done
exec sleep infinity
