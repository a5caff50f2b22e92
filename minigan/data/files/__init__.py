"""One file each: found, downloaded, verified, read and decoded."""
