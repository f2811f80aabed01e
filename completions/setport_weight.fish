complete -c setport_weight -l start-port -d 'First port of the range, 1 to 65535' -r
complete -c setport_weight -l end-port -d 'Last port of the range, inclusive' -r
complete -c setport_weight -l weight -d 'Weight of this node on these ports, 0 to 65535; 0 quiesces' -r
complete -c setport_weight -l protocol -d 'Transport protocol: tcp, udp, sctp' -r
complete -c setport_weight -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c setport_weight -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c setport_weight -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c setport_weight -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c setport_weight -l delete -d 'Unflag the range; a flag of the level below (cluster, cvip.conf) holds again'
complete -c setport_weight -l list -d 'Show the flags that hold on the node, nearest level first'
complete -c setport_weight -l json -d 'Print --list as JSON'
complete -c setport_weight -l cluster -d 'Flag the range on every node instead'
complete -c setport_weight -s h -l help -d 'Print help (see more with \'--help\')'
complete -c setport_weight -s V -l version -d 'Print version'
