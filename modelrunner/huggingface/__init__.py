"""What the Hugging Face Hub keeps: its files, their names, and the artifact made of them."""
