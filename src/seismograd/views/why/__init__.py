"""What `seismograd why` puts together: findings, the birth, the depth, what changed before."""
