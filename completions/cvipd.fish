complete -c cvipd -l node -d 'The node, by its number in clustertab [default: the one whose address this host has]' -r
complete -c cvipd -l log -d 'What is logged on standard error: error, warn, info, debug, or a filter such as cvip::node=debug' -r
complete -c cvipd -l conf -d 'The cluster\'s configuration, cvip.conf(5)' -r -F
complete -c cvipd -l clustertab -d 'Node numbers and addresses, clustertab(5)' -r -F
complete -c cvipd -l run-dir -d 'The folder of the store and of cvipd\'s control sockets' -r -f -a "(__fish_complete_directories)"
complete -c cvipd -l poll -d 'Notice listeners by polling alone, as on a kernel that allows no bells'
complete -c cvipd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c cvipd -s V -l version -d 'Print version'
