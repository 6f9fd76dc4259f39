// Package relay carries sealed packets between devices.
package relay
