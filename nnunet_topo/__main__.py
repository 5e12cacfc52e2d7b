"""`python -m nnunet_topo`: the command nnunet-topo."""

import sys

from nnunet_topo.cli import main

if __name__ == "__main__":
    sys.exit(main())
