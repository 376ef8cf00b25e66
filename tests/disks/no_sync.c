/* Loaded into a node before the C library, it makes every sync of data a lie: the planted fault that the power cuts must
   find. Syncs of whole files and of directories are left as they are, so that what is lost is what was acknowledged. */
int fdatasync(int fd) { (void)fd; return 0; }
