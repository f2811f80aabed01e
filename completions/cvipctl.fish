# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_cvipctl_global_optspecs
    string join \n conf= clustertab= run-dir= h/help V/version
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
complete -c cvipctl -n "__fish_cvipctl_needs_command" -s h -l help -d 'Print help'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -s V -l version -d 'Print version'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "check" -d 'Validate cvip.conf and clustertab: every fault in one run, each with its place'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "convert" -d 'Print the virtual services of cvip.conf as input for `ipvsadm -R`, or as JSON'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "diff" -d 'Show what `apply` would change in the kernel\'s table, as ipvsadm\'s commands'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "apply" -d 'Make the kernel\'s table what cvip.conf and the registrations say'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "import" -d 'Put services that were made by hand into cvip.conf, as static ones'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "status" -d 'Show nodes, flags, registrations and the kernel\'s table'
complete -c cvipctl -n "__fish_cvipctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -l json -d 'Print the faults as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l format -d 'How the entries are printed' -r -f -a "restore\t'Input for `ipvsadm -R`'
shell\t'The same as shell commands'
json\t'JSON'"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l json -d 'The same as --format=json'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -l all -d 'Print automatic services too, as if every real server listened on every port'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -l json -d 'Print the changes as a JSON array of ipvsadm\'s commands'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -l dry-run -d 'Change nothing; show how the file would change'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -l json -d 'Print everything as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "check" -d 'Validate cvip.conf and clustertab: every fault in one run, each with its place'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "convert" -d 'Print the virtual services of cvip.conf as input for `ipvsadm -R`, or as JSON'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "diff" -d 'Show what `apply` would change in the kernel\'s table, as ipvsadm\'s commands'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "apply" -d 'Make the kernel\'s table what cvip.conf and the registrations say'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "import" -d 'Put services that were made by hand into cvip.conf, as static ones'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "status" -d 'Show nodes, flags, registrations and the kernel\'s table'
complete -c cvipctl -n "__fish_cvipctl_using_subcommand help; and not __fish_seen_subcommand_from check convert diff apply import status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
