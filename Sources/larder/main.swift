import Commands
import Glibc

exit(LarderProgram.run(CommandLine.arguments))
