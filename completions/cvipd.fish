complete -c cvipd -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipd -l log -d 'What is logged on standard error: error, warn, info, debug, trace or off, and more of one part, as in info,cvip::node=debug' -r
complete -c cvipd -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipd -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipd -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipd -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipd -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipd -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipd -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipd -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipd -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipd -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipd -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipd -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipd -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipd -l poll -d 'Notice listeners by polling alone, as on a kernel that allows no socket events'
complete -c cvipd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipd -s V -l version -d 'Print version'
