# For a shell that a person opens. The prompt and colours are those of Debian's ~/.bashrc.
[ -t 1 ] || return 0
printf 'What runs here goes on while this page is closed.\n\n'
