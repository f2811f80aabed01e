complete -c setport_weight -l start-port -d 'First port of the range, 1 to 65535' -r
complete -c setport_weight -l end-port -d 'Last port of the range, inclusive' -r
complete -c setport_weight -l weight -d 'Weight of this node on these ports, 0 to 65535; 0 quiesces' -r
complete -c setport_weight -l protocol -d 'Transport protocol: tcp, udp, sctp' -r -f -a "tcp\t''
udp\t''
sctp\t''"
complete -c setport_weight -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c setport_weight -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c setport_weight -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c setport_weight -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c setport_weight -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c setport_weight -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c setport_weight -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c setport_weight -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c setport_weight -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c setport_weight -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c setport_weight -l etcd-user -d 'The user to log in to etcd as' -r
complete -c setport_weight -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c setport_weight -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c setport_weight -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c setport_weight -l delete -d 'Unflag the range; a flag of the level below (cluster, cvip.conf) holds again'
complete -c setport_weight -l list -d 'Show the flags that hold on the node, nearest level first'
complete -c setport_weight -l json -d 'Print --list as JSON'
complete -c setport_weight -l cluster -d 'Flag the range on every node instead'
complete -c setport_weight -s h -l help -d 'Print help (see more with \'--help\')'
complete -c setport_weight -s V -l version -d 'Print version'
