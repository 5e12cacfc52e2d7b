"""What the commands of nnunet-topo do."""
