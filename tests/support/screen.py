"""A small terminal: understands what a chat draws with, and shows what is seen in the end."""

import io
import re


class Screen(io.StringIO):
    """Remembers all rows that there ever were; styles are left out."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|.", self.getvalue(), re.DOTALL):
            match part:
                case "\n":
                    row, column = row + 1, 0
                    rows += [""] * (row + 1 - len(rows))
                case "\r":
                    column = 0
                case "\x1b[K":
                    rows[row] = rows[row][:column]
                case "\x1b[J":
                    rows[row:] = [rows[row][:column]]
                case _ if part.endswith("A"):
                    row -= int(part[2:-1])
                case _ if not part.startswith("\x1b"):
                    rows[row] = rows[row][:column] + part + rows[row][column + 1 :]
                    column += 1
        return rows
