# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cvipctl_global_optspecs
    string join \n conf= clustertab= run-dir= settings= store= etcd-endpoints= etcd-ca= etcd-cert= etcd-key= etcd-user= etcd-password-file= etcd-prefix= cluster-key-file= h/help V/version
end

function __fish_cvipctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_cvipctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_cvipctl_using_subcommand
    set -l cmd (__fish_cvipctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c cvipctl -n "__fish_cvipctl_needs_command" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_needs_command" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -s V -l version -d 'Print version'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "check" -d 'Validate cvip.conf and clustertab: every fault in one run, each with its place'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "convert" -d 'Print the virtual services of cvip.conf as input for `ipvsadm -R`, or as JSON'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "diff" -d 'Show what `apply` would change in the kernel\'s table, as ipvsadm\'s commands'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "apply" -d 'Make the kernel\'s table what cvip.conf and the registrations say'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "import" -d 'Put services that were made by hand into cvip.conf, or draft one from another system\'s file'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "status" -d 'Show nodes, flags, registrations and the kernel\'s table'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "metrics" -d 'Print what this node\'s cvipd and the kernel\'s table count, for Prometheus'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "takeover" -d 'Make this director the active one of its set, in good order'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "leave" -d 'Take this node out for good, in good order'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "drain" -d 'Take a node, or a port of it, out of the pools: no new connections, the old ones go on'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "undrain" -d 'Put a drained node, or a port of it, back into the pools'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "events" -d 'Show what happened: which servers and nodes came and went, which director is active, and why'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "etcd-roles" -d 'Print the users and roles that a cluster on etcd needs, as etcdctl\'s commands'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "doctor" -d 'Examine this running cluster, and say how to fix each fault'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "replay" -d 'Decide again what cvipd decided, by its recording, and show each decision with its reason'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l offline -d 'Check the files alone, and do not look at the store'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l json -d 'Print the faults as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l format -d 'How the entries are printed' -r -f -a "restore\t'Input for `ipvsadm -R`'
shell\t'The same as shell commands'
json\t'JSON'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l json -d 'The same as --format=json'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l all -d 'Print automatic services too, as if every real server listened on every port'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l json -d 'Print the changes, as ipvsadm\'s commands, as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l from -d 'The format of FILE [default: as it is recognised]' -r -f -a "keepalived\t''
ldirectord\t''
ipvsadm\t''"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l director -d 'A director\'s address, and with a comma its one of the other family; repeat it for each director, the first choice first [default: as FILE tells]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l interface -d 'The interface of the directors that carries the CVIPs [default: as FILE tells]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l sync-interface -d 'The interface on which directors synchronise connections [default: as FILE tells]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l routing -d 'The forwarding method of the draft, which has one [default: that of most services]' -r -f -a "DR\t''
NAT\t''
TUN\t''"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l registration -d 'How real servers join the services: static needs no cvipd on them [default: static]' -r -f -a "automatic\t''
static\t''"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l output -d 'Write cvip.conf and clustertab into this folder, where neither is yet' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l dry-run -d 'Change nothing; show how the file would change'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l all -d 'Name the statements too that are carried as they are'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l json -d 'Print what became of each statement, and the draft, as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l cluster -d 'Show what the store says of the whole cluster, and nothing of this host\'s kernel'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l json -d 'Print everything as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand takeover" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l within -d 'For how long connections that are left are waited for, such as 90s or 5m' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand leave" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l reason -d 'Why, as `status` and `events` show it' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l deadline -d 'After how long connections that are left are cut, such as 90s, 5m or 1h30m [default: each service\'s drain_timeout]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l now -d 'Cut the connections at once: a deadline of 0'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l wait -d 'Wait until it is out, and show the connections that are left; on the director these are the kernel\'s numbers, elsewhere what the node itself counts'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -l json -d 'Print what was ordered, and how the wait ended, as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand drain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -l json -d 'Print what was taken back as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand undrain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l since -d 'Only what happened since: a time ago, such as 90s or 1h, or a moment, such as 2026-03-01T22:00:00Z' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l node -d 'Only what is about this node: what it serves, how it is, its drains, and what it did as a director' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l follow -d 'Go on with what happens from now, until interrupted'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -l json -d 'Print a line of JSON for each event'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l certificates -d 'Users without passwords: each is known by the common name of its certificate (etcd\'s --client-cert-auth)'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -l json -d 'Print users and roles as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand etcd-roles" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -l json -d 'Print the findings as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -s q -l quiet -d 'Print faults only'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l core -d 'Only this part of cvipd' -r -f -a "monitor\t''"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l since -d 'Only what was decided since: a time before the recording\'s end, such as 90s or 5m, or a moment, such as 2026-03-01T22:00:00Z. What is before is replayed all the same' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l settings -d 'Which store, and how to reach it, cvip.toml(5) [default: /etc/cvip/cvip.toml if it exists]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l store -d 'The store: local (one host) or etcd' -r -f -a "local\t'A folder of this host'
etcd\t'The servers of an etcd cluster'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-endpoints -d 'etcd\'s servers, HOST:PORT or https://HOST:PORT, separated by commas' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-ca -d 'Whose certificates etcd\'s servers have, a PEM file [default: the system\'s authorities]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-cert -d 'This host\'s certificate for etcd, a PEM file' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-key -d 'The certificate\'s private key, a PEM file that others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-user -d 'The user to log in to etcd as' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-password-file -d 'The file with the user\'s password, which others may not read' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l etcd-prefix -d 'What cvip\'s keys in etcd begin with [default: /cvip/]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l cluster-key-file -d 'The file of the key by which the cluster\'s members know one another, which others may not read [default: /etc/cvip/cluster.key]' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -l json -d 'Print a line of JSON for each decision'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "check" -d 'Validate cvip.conf and clustertab: every fault in one run, each with its place'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "convert" -d 'Print the virtual services of cvip.conf as input for `ipvsadm -R`, or as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "diff" -d 'Show what `apply` would change in the kernel\'s table, as ipvsadm\'s commands'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "apply" -d 'Make the kernel\'s table what cvip.conf and the registrations say'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "import" -d 'Put services that were made by hand into cvip.conf, or draft one from another system\'s file'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "status" -d 'Show nodes, flags, registrations and the kernel\'s table'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "metrics" -d 'Print what this node\'s cvipd and the kernel\'s table count, for Prometheus'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "takeover" -d 'Make this director the active one of its set, in good order'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "leave" -d 'Take this node out for good, in good order'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "drain" -d 'Take a node, or a port of it, out of the pools: no new connections, the old ones go on'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "undrain" -d 'Put a drained node, or a port of it, back into the pools'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "events" -d 'Show what happened: which servers and nodes came and went, which director is active, and why'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "etcd-roles" -d 'Print the users and roles that a cluster on etcd needs, as etcdctl\'s commands'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "doctor" -d 'Examine this running cluster, and say how to fix each fault'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "replay" -d 'Decide again what cvipd decided, by its recording, and show each decision with its reason'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status metrics takeover leave drain undrain events etcd-roles doctor replay help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
