"""What somebody asks who helps from afar: each answer ends in a command where it is not well."""
