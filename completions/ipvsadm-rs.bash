# Completions of ipvsadm-rs for bash. Generated: do not edit.
_ipvsadm_rs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    case $prev in
        --start-daemon) COMPREPLY=($(compgen -W 'master backup' -- "$cur")); return ;;
        --stop-daemon) COMPREPLY=($(compgen -W 'master backup' -- "$cur")); return ;;
        -t|--tcp-service) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        -u|--udp-service) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        --sctp-service) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        -f|--fwmark-service) COMPREPLY=(); return ;;
        -s|--scheduler) COMPREPLY=($(compgen -W 'rr wrr lc wlc fo ovf lblc lblcr dh sh mh sed nq twos' -- "$cur")); return ;;
        -b|--sched-flags) COMPREPLY=($(compgen -W 'flag-1 flag-2 flag-3 sh-fallback sh-port mh-fallback mh-port' -- "$cur")); return ;;
        -p|--persistent) COMPREPLY=(); return ;;
        -M|--netmask) COMPREPLY=(); return ;;
        --pe) COMPREPLY=($(compgen -W 'sip' -- "$cur")); return ;;
        -r|--real-server) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        -w|--weight) COMPREPLY=(); return ;;
        -x|--u-threshold) COMPREPLY=(); return ;;
        -y|--l-threshold) COMPREPLY=(); return ;;
        --tun-type) COMPREPLY=($(compgen -W 'ipip gue gre' -- "$cur")); return ;;
        --tun-port) COMPREPLY=(); return ;;
        --interval) COMPREPLY=(); return ;;
        --count) COMPREPLY=(); return ;;
        --protocol) COMPREPLY=($(compgen -W 'tcp udp sctp' -- "$cur")); return ;;
        --service) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        --client) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        --destination) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
        --state) COMPREPLY=($(compgen -W 'NONE ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN SYNACK UDP ASSURED' -- "$cur")); return ;;
        --mcast-interface) COMPREPLY=($(compgen -W "$(ls /sys/class/net)" -- "$cur")); return ;;
        --syncid) COMPREPLY=(); return ;;
        --sync-maxlen) COMPREPLY=(); return ;;
        --mcast-group) COMPREPLY=(); return ;;
        --mcast-port) COMPREPLY=(); return ;;
        --mcast-ttl) COMPREPLY=(); return ;;
    esac
    COMPREPLY=($(compgen -W '--add-service --edit-service --delete-service --clear --add-server --edit-server --delete-server --list --zero --save --restore --restore-json --apply --diff --set --start-daemon --stop-daemon --help --version --tcp-service --udp-service --sctp-service --fwmark-service --ipv6 --ipv4 --scheduler --sched-flags --persistent --netmask --pe --ops --real-server --gatewaying --ipip --masquerading --weight --u-threshold --l-threshold --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum --connection --timeout --daemon --stats --rate --thresholds --persistent-conn --tun-info --exact --nosort --sort --numeric --json --totals --status --interval --count --full --protocol --service --client --destination --state --report --keep-going --stop-on-error --check --dry-run --mcast-interface --syncid --sync-maxlen --mcast-group --mcast-port --mcast-ttl -A -E -D -C -a -e -d -L -l -Z -S -R -h -v -t -u -f -6 -4 -s -b -p -M -o -r -g -i -m -w -x -y -c -X -n' -- "$cur"))
}
complete -F _ipvsadm_rs ipvsadm-rs ipvsadm
