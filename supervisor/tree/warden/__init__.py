r"""The warden: a small process above one command's tree, which stops that tree and proves it gone.

    parked --go--> running --the command exits--> waiting for a word --stop or leave--> gone
       \______________\________ stop, end of file on the pipe, SIGUSR1 ______________/

It lives as long as the command, so it imports what Python has in itself, and nothing of `supervisor`. Its descriptors:
0, 1, 2 are the command's; 3 our supervisor's orders, at whose end (the supervisor is dead) it stops the tree without
grace; 4 its own words; then the files in its name, each with the folder it is in.
Everything that the command starts stays below it: it is their reaper. **The proof is `waitpid(-1)` answering ECHILD.**

Which file is deleted by whom, and when. All say `gone` by then, and stay under our flock until we have exited.

    lock file    by the warden, after ECHILD
    life file    by the supervisor, once it has recorded the end; where the supervisor is dead, by the warden, unless it
                 was told to keep it for a recovery to read

A warden that is killed deletes nothing and writes nothing: who finds its files knows that the tree may live.
"""
